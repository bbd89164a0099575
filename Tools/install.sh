#!/bin/bash
# Installs what Martlet needs on a Debian 12 machine. Does nothing when everything is there.
#   Tools/install.sh run    to build it and to run a cluster
#   Tools/install.sh test   also what the tests use
set -euo pipefail
packages=(containerd runc containernetworking-plugins nftables iproute2 util-linux conntrack procps curl python3 libsqlite3-dev zlib1g-dev)
if [ "${1:-run}" = test ]; then
  packages+=(busybox-static nginx-light nginx-common openssl)
  # A kubectl that is already on the machine (also the newer ones of the Google Cloud SDK) serves; else Debian's.
  command -v kubectl >/dev/null || ls /usr/lib/google-cloud-sdk/bin/kubectl.* >/dev/null 2>&1 || packages+=(kubernetes-client)
fi
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0
echo "installing: ${missing[*]}"
run=(); [ "$(id -u)" = 0 ] || run=(sudo)
# Packages bring services of their own; Martlet runs its own containerd, so none of them is started.
policy=/usr/sbin/policy-rc.d; made=
if [ ! -e $policy ]; then printf '#!/bin/sh\nexit 101\n' | "${run[@]}" tee $policy >/dev/null; "${run[@]}" chmod +x $policy; made=1; fi
trap '[ -z "$made" ] || "${run[@]}" rm -f $policy' EXIT
"${run[@]}" apt-get update -q >/dev/null
DEBIAN_FRONTEND=noninteractive "${run[@]}" apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null
