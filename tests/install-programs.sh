#!/bin/sh
# Foreign programs that tests speak with. As root on Debian they are installed; otherwise what is missing is named,
# and its tests skip.
set -eu
missing=""
need() { command -v "$1" >/dev/null 2>&1 || [ -e "$1" ] || missing="$missing $2"; }
need redis-server redis-server
need storescu dcmtk
need Orthanc orthanc
need /usr/share/orthanc/plugins/libOrthancDicomWeb.so orthanc-dicomweb
need /usr/lib/postgresql/15/bin/initdb postgresql-15
need chromium chromium
need dciodvfy dicom3tools
need /usr/share/java/pixelmed.jar libpixelmed-java
need java default-jre-headless
need strace strace
need pdftotext poppler-utils
# Foreign engines and validators of npm, in their locked versions: HL7 receiver, FHIR judge.
node="$(dirname "$0")/node"
if command -v npm >/dev/null 2>&1 && [ ! -d "$node/node_modules/fhir" ]; then
    (cd "$node" && npm ci --no-audit --no-fund --silent >/dev/null 2>&1) ||
        echo "could not install npm packages of tests/node: their tests skip" >&2
fi
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing for tests:$missing" >&2
    # No service may start by itself: tests start their own on their own ports.
    policy=/usr/sbin/policy-rc.d
    made=""
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        made=1
    fi
    apt-get update -qq || true
    for package in $missing; do
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null 2>&1 ||
            echo "could not install $package: its tests skip" >&2
    done
    [ -z "$made" ] || rm -f "$policy"
else
    echo "missing for tests (apt-get install$missing): their tests skip" >&2
fi
