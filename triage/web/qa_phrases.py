# ruff: noqa: E501 - one phrase a line
"""What the QA charts and the report say, figures as #: the catalogues take it from here (`qa_words`)."""

from __future__ import annotations

PHRASES = tuple(
    """\
Do flagged patients get read sooner?
Does anybody wait too long?
How often is a flag right?
What do we miss?
Agreement and its reasons
Is it the same for everyone?
Has the input changed?
Has the output changed?
Is the detector the same as at acceptance?
Is it calibrated here?
What is not analysed?
Is it fast?
Do alerts arrive and close?
How loud are we?
Is the list obeyed?
Shadow release against the live one
What would another threshold do?
first image to first opening, by week of arrival and order; who still waits is censored (Kaplan-Meier). Flagged: a flag stood when the study was opened (stands at the end, for one that waits), withdrawn since or not; one that came later does not count. Groups differ in more than the flag, and who opens a study at once sees no flag yet: compare cells of # and more; no proof of cause
the twenty longest waits from first image to opening; beyond: longer than the class without AI allows. Alarm: any
PPV over the last # days of the period: a reader's last word, else what the final report's text states or denies (rules, not adjudicated). A word is of the flags that stood when it was said: one that was withdrawn later was judged, one that came later was not. Agree counts as right, disagree as not right whatever its reason: a flag of something known, old or not relevant was not worth an alarm. Finding there: the same, but known or old and not clinically relevant count as there, since the detector was right. Alarm for critical findings: a CUSUM of rejected flags, #% accepted against #%, evidence above #. The studies of a row are its rejected flags
said missed: by a reader (key M, of any study that has no such flag) or stated by the final report of an unflagged study. At most = right flags / (right flags + said missed): an upper end, since who looks where nothing was flagged is chance. Sensitivity = right flags / (right flags + unflagged x share found by the blind second read of # % of the unflagged), with the sample's interval (Begg and Greenes #). Right: the finding is there (chart #). The studies of a row are those said missed or found in the sample
reasons of disagreement by release, as a share of the words (agree or disagree) on that release: the one whose result stood when the word was said
flag rate among analysed, PPV (of the flags that stood when the word was said), share not analysed; views are of films alone; fewer than # flags: no figure. Alarm: an interval that excludes the overall flag rate of #%; groups differ in illness too
no study was analysed
population stability index against the # days before the period, over the tenths of that month (words: each word). Alarm: above # and more than twice what chance alone gives
daily share of analysed studies with a flag against the period itself (#%); limits of # sigma, # days on one side, and an EWMA (#, # sigma: one false alarm a year)
daily share of analysed studies with a flag against the month before (#%); limits of # sigma, # days on one side, and an EWMA (#, # sigma: one false alarm a year)
constancy phantoms through the whole real path, and once a day the golden case of each active release: fixed input, outputs compared with those of its making (at most # apart). Alarm: any phantom that was not flagged in time, any golden case that differs or whose files are not its own
said probability against what final reports state (rules; a report that does not mention a finding says nothing of it), in tenths. Alarm: expected calibration error above #; fewer than # positives: no figure
runs that were not analysed or failed, by reason and sender, as a share of all runs, beside the month before. Alarm: a reason that is new from a sender, or rose by more than # points
seconds of runs that count, by station; alarm: # % of last image to result above # s for films, # min for scans. The studies of a row are those at or above its # %
raised to acknowledged (or closed by a report), censored at the end; alarm: any alert that climbed to step #, or that is exhausted
alerts raised by hour of day (UTC), over reader-hours: an hour in which a reader opened a study. Alarm: more than # a reader-hour over the period
openings by `next`, and how many studies above it were passed over; a trend, no alarm, and no named reader (own figures need # openings and are the lead's alone)
studies that both looked at, flag against flag, Cohen's kappa; findings that neither flagged are left out. Before going live: at least # studies and # flags (standards #). The studies of a row are the discordant ones
stored probabilities of the live release; PPV among flags whose truth is known (chart #), which below the threshold in force are few and not a fair sample. Waits: the period's own arrivals, reading times and readers played again with such flags under the policy in force (needs # reported studies). The studies of a row are right flags of today that it would lose
lead
physicist
auditor
QA, auditor
admin, QA
lead, auditor
# studies waited beyond their bound
# study waited beyond its bound
an alert climbed to the last step of the ladder
# constancy check failed
# constancy checks failed
# day out of control
# days out of control
last #-#-#
differs from the rest
shifted
calibration error
fewer than #% of flags are right
# % within # s
+# points
median # before, # now
#% before, #% now
# alerts a reader-hour
Alarm for critical findings
week from
order
group
studies
median s
# % s
still open
note
flagged wait, min
flagged wait
others wait, min
others wait
flagged
not flagged
unflagged
too few to compare
seconds
class
now
beyond bound
opened
yes
finding
flags
judged, # days
low
high
evidence against
said missed
at most
finding there
found in sample
sample
right flags
sensitivity
release
reason
words
share
no run
no reason given
by
flag rate
detector
what
month before
by chance
too few in the month before
too few
day
analysed
median score
# % score
mark
beyond # sigma
# on one side
lasting shift
checks
largest difference
phantom
golden case
positive
said
seen
sender
runs
of
new
part
last image to result
transfer
complete
queue
model
value
half acknowledged within, s
half acknowledged within
# % acknowledged within, s
# % acknowledged within
reached step #
open or exhausted at the end
hour
alerts
reader-hours
per reader-hour
upper limit
openings
share by next
mean rank skipped
by next
both
live only
shadow only
neither
evidence
enough
too few yet
threshold
flags a day
judged
right flags lost
in force
sex
age
age band
device
view
unknown
kernel
slice thickness
columns
count
wait
study
median
longest
all
Share that waited beyond the bound of the class
Share of alerts that reached a step
step #
step
Alerts by hour of day
Share opened by next
Flag rate per day
Flags a day by threshold
PPV per finding, last # days
hours
minutes
# of #
# % (# of #)
# % to # %
# % (# % to # %), #
any finding
# of # judged
none judged
flagged (n = #)
unflagged (n = #)
QA report of triage
period
made
mode
data as of audit event
contents
for inside the department only
de-identified
release (active)
release (shadow)
release (retired)
policy #
since #-#-#T# UTC
#-#-#T# UTC by triage #
#-#-#T# to #-#-#T# UTC
#-#-#T# to #-#-#T# UTC (still running)
Research and demonstration software, not a medical device. Not for clinical use.
Thresholds that findings of the period were judged by
What arrived and what was analysed
# study arrived; a detector wanted # of them.
# studies arrived; a detector wanted # of them.
Of the studies that a detector wanted
not analysed
failed
still waiting for a run
Why runs were not analysed or failed, share of runs
Why runs were not analysed or failed
Studies by class, order and modality
Raised
by AI
by a person
Flags
Analysed studies with a flag
Studies by the class that their highest flag lifts to
Flagged, per finding
Share of analysed studies that were flagged
Readers agreed (PPV), per finding
Readers agreed (PPV), by class
Share of judged flags that readers agreed with (PPV)
Words of readers
agree
disagree
Why readers disagreed: none.
Why readers disagreed
Said to be missed: none.
Said to be missed
Time
times
Arrival to opening
Arrival to report
Share still waiting, arrival to opening
Share still waiting, arrival to report
The longest waits to opening
To the AI's answer
arrival to result, flagged or not
arrival to flag
Waited beyond the longest wait of their class without AI
Flagged against unflagged: too few.
still unopened
open
ordered ROUTINE
ordered STAT
ordered URGENT
class critical
class high
class elevated
class routine
Alerts
# alert, # a day (# to #).
# alerts, # a day (# to #).
By state
state
By step of the ladder reached
Raised to acknowledged, or closed by a report
Beyond the first step
escalated
never acknowledged
Deliveries: none.
Deliveries
Constancy checks
# check, # on their way.
# checks, # on their way.
Passed
Seconds to the flag of passed checks
Failed: none.
Failed
subgroups
Changes in the period: none.
Changes in the period
How it was counted
Discordant studies: none.
intervals
cohort
flag
: # %: Wilson for shares, Poisson (exact) for rates, Kaplan-Meier (log-log) for times.
: actionable finding of a completed run that was asked for as more than a shadow; superseded runs left out.
: fewer than # positives: too few for a figure; cells below # are suppressed unless the report stays in the department.
: flags that readers agreed with, of those they judged (the last word counts): a word is of the flags that stood when it was said, withdrawn since or not. Readers' words are not adjudicated truth, and depend on prevalence.
: from the first image on; a study that still waits is right-censored at the end of the period, not dropped; a time is empty where fewer were done. To the flag: to the first, withdrawn since or not.
: flagged: a flag stood when the study was first opened (stands at the end, for one that waits), withdrawn since or not; one that came later does not count. Log-rank over unequal groups: classes, hours and staffing differ, and who opens a study at once sees no flag yet; no proof of cause.
: studies that arrived in the period; constancy phantoms are never counted.
: waited longer than the class without AI allows, opened or not.
# % interval
since #-#-#
beyond_bound
flagged_against_unflagged
crashed
figure
""".splitlines()
)
