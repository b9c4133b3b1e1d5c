"""The tables. The database keeps the promises: NOT NULL, CHECK on states, UNIQUE for idempotency keys, foreign keys.

Times are UTC and aware; UIDs are text of 64; probabilities are stored raw and calibrated. Rows that a person can
change have a `version` for optimistic locking. What each partial index serves is said beside it.
"""

from triage.store.schema.access import idempotency, peer, proposal, session, token, user, view
from triage.store.schema.alerting import alert, delivery, delivery_attempt, operator_notice, route
from triage.store.schema.columns import UtcTime, metadata
from triage.store.schema.commitment import commitment
from triage.store.schema.evidence import listed_series, performed_step
from triage.store.schema.fetching import prior_study, pull_cursor, pull_series
from triage.store.schema.identity import identity_fact, patient_link, study_patient
from triage.store.schema.messages import message, on_call, report
from triage.store.schema.performing import task
from triage.store.schema.quality import double_read, qa_report
from triage.store.schema.reading import claim, feedback, policy, worklist_item
from triage.store.schema.rejection import rejected_instance, rejection_note
from triage.store.schema.run import constancy_check, finding, output, release, run
from triage.store.schema.sending import dispatch
from triage.store.schema.study import instance, order, patient, quarantine, series, study
from triage.store.schema.subscriptions import subscriber, subscription
from triage.store.schema.trail import audit_event, event, heartbeat, lease
from triage.store.schema.workitems import workitem, workitem_event

__all__ = [
    "UtcTime",
    "alert",
    "audit_event",
    "claim",
    "commitment",
    "constancy_check",
    "delivery",
    "delivery_attempt",
    "dispatch",
    "double_read",
    "event",
    "feedback",
    "finding",
    "heartbeat",
    "idempotency",
    "identity_fact",
    "instance",
    "lease",
    "listed_series",
    "message",
    "metadata",
    "on_call",
    "operator_notice",
    "order",
    "output",
    "patient",
    "patient_link",
    "peer",
    "performed_step",
    "policy",
    "prior_study",
    "proposal",
    "pull_cursor",
    "pull_series",
    "qa_report",
    "quarantine",
    "rejected_instance",
    "rejection_note",
    "release",
    "report",
    "route",
    "run",
    "series",
    "session",
    "study",
    "study_patient",
    "subscriber",
    "subscription",
    "task",
    "token",
    "user",
    "view",
    "workitem",
    "workitem_event",
    "worklist_item",
]
