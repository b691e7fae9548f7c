#!/usr/bin/env bash
# Installs the Debian packages that building, testing and demonstrating framehaul need. Does nothing where all of them are there.
# Packages named as arguments are wanted too. SKIP_DEPS=1 leaves everything as it is, for systems where their like was installed by hand.
set -euo pipefail

# The opencv crate: the clang program and libclang read OpenCV's headers; libopencv-dev holds opencv4.pc, by which they are found.
# C and C++ compilers: also for SQLite and the TLS library, which come as source.
build=(make gcc g++ pkg-config clang libclang-dev libopencv-dev)
# The FFmpeg engine: FFmpeg's libraries; cmake and nasm for libjpeg-turbo, which comes as source.
build+=(libavcodec-dev libavformat-dev libavutil-dev libswscale-dev cmake nasm)
# Test cameras: GStreamer's RTSP server under Debian's Python, with appsrc (in base) and rtph264pay, rtph265pay and rtpjpegpay
# (in good); ffmpeg encodes their pictures, openssl makes their certificates. The official Python client of Cloud Storage and
# moto, which plays S3, get environments of their own.
test=(python3 python3-venv python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-{base,good} ffmpeg openssl)
# Crashes at every boundary: strace ends the process in the midst of chosen system calls.
# Metrics and alerts: Prometheus with promtool. The unit: systemd-analyze.
test+=(prometheus strace)
# docs/worker.sh, a worker without framehaul's.
test+=(curl jq)
command -v systemd-analyze >/dev/null || test+=(systemd)
# Azurite, which plays Azure, runs on Node.js 18 or newer. Where there is another than Debian's, it brings its own npm.
command -v npm >/dev/null || test+=(nodejs npm)
packages=("${build[@]}" "${test[@]}" "$@")

say() { printf 'install-deps: %s\n' "$*" >&2; }
fail() { say "$@"; exit 1; }

[[ ${SKIP_DEPS:-} != 1 ]] || exit 0

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    fail "no apt-get on this system. Install what matches Debian's ${packages[*]} (README.md lists names for other systems)," \
        "then run again with SKIP_DEPS=1 set."
fi

# Prints the packages that are not fully installed. dpkg-query fails when it knows nothing of one; its list is good all the same.
missing() {
    local installed
    installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "${packages[@]}" 2>/dev/null || true)
    local package
    for package in "${packages[@]}"; do
        grep -qxF "installed $package" <<<"$installed" || echo "$package"
    done
}

mapfile -t wanted < <(missing)
((${#wanted[@]})) || exit 0

as_root=(env DEBIAN_FRONTEND=noninteractive)
if ((EUID != 0)); then
    command -v sudo >/dev/null ||
        fail "missing: ${wanted[*]}. Neither root nor sudo here: install them as root (apt-get install ${wanted[*]}), then run again."
    as_root=(sudo "${as_root[@]}")
fi

say "installing ${wanted[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Its hundreds of lines matter only when it fails. Standard input stays with sudo, which may ask for a password.
quietly() { "${as_root[@]}" "$@" >>"$log" 2>&1 || { tail -n 30 "$log" >&2; fail "\`$*\` failed; its last lines stand above."; }; }
quietly apt-get update -q
# Prometheus and Redis are wanted for their programs: Debian's packages would also start them as services, now and at each
# boot. They heed this file, unless the system has one of its own.
services=()
for service in prometheus redis-server; do
    [[ " ${wanted[*]} " != *" $service "* ]] || services+=("$service.service")
done
policy=/usr/sbin/policy-rc.d
if ((${#services[@]})) && [[ ! -e $policy ]]; then
    "${as_root[@]}" sh -c "printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy"
    trap '"${as_root[@]}" rm -f "$policy"; rm -f "$log"' EXIT
fi
quietly apt-get install -q -y --no-install-recommends "${wanted[@]}"
if ((${#services[@]})) && [[ -d /run/systemd/system ]]; then
    quietly systemctl disable "${services[@]}"
fi

mapfile -t wanted < <(missing)
((${#wanted[@]} == 0)) || fail "apt-get succeeded, yet these are not installed: ${wanted[*]}. Look at \`apt-cache policy ${wanted[*]}\`."
