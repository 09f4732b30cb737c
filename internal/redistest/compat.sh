#!/bin/sh
# Unpacks Redis 8 and Valkey 8 of Debian 13 into a folder, with the libraries
# they need, so that they run beside those of an older Debian:
#
#   compat.sh FOLDER    makes FOLDER/redis-server and FOLDER/valkey-server
#
# Nothing is installed. The packages come through apt-get, which checks their
# signatures; DEBIAN_MIRROR names another mirror than http://deb.debian.org/debian.
set -eu

fail() { echo "compat: $*" >&2; exit 1; }

# reason is what the last command said of its failure.
reason() { grep -m 1 '^E:' "$work/log" || tail -n 1 "$work/log"; }

[ $# = 1 ] || fail "usage: compat.sh FOLDER"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
for tool in apt-get dpkg-deb; do
	command -v $tool >/dev/null || fail "$tool is missing: this needs a Debian 12 or newer"
done
[ -e $keyring ] || fail "$keyring is missing: apt-get install debian-archive-keyring"

mkdir -p "$1"
folder=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Lists and caches of its own, in which nothing is installed; how to reach the
# mirror is the machine's.
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/debs"
touch "$work/status"
echo "deb [signed-by=$keyring] ${DEBIAN_MIRROR:-http://deb.debian.org/debian} trixie main" >"$work/sources.list"
cat >"$work/apt.conf" <<END
Dir::Etc::sourcelist "$work/sources.list";
Dir::Etc::sourceparts "-";
Dir::State "$work";
Dir::State::status "$work/status";
Dir::Cache "$work/cache";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "3";
END
export APT_CONFIG="$work/apt.conf"
apt-get update -qq >"$work/log" 2>&1 || fail "cannot read Debian's list of packages: $(reason)"

# The servers and the libraries they are linked with, and those of these.
packages="redis-server redis-tools valkey-server valkey-tools
	libc6 libstdc++6 libgcc-s1 libatomic1 libjemalloc2 liblzf1 libssl3t64 libsystemd0 libcap2 libzstd1 zlib1g"
(cd "$work/debs" && apt-get download -qq $packages >"$work/log" 2>&1) || fail "cannot download packages: $(reason)"
rm -rf "$folder/root"
for deb in "$work"/debs/*.deb; do
	dpkg-deb -x "$deb" "$folder/root"
done

loader=$(find "$folder/root/usr/lib" -name 'ld-linux*' | sort | head -n 1)
[ -n "$loader" ] || fail "no loader in the unpacked libc6"
libraries=${loader%/*}
for server in redis-server valkey-server; do
	# The newer libraries need the newer loader. The name decides what the
	# program is: redis-check-rdb is the same file.
	cat >"$folder/$server" <<END
#!/bin/sh
exec "$loader" --argv0 $server --library-path "$libraries" "$folder/root/usr/bin/$server" "\$@"
END
	chmod +x "$folder/$server"
	"$folder/$server" --version >"$work/log" 2>&1 || fail "$server does not run here: $(reason)"
done
