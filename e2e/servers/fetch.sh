#!/usr/bin/env bash
#
# Makes the database servers of the end-to-end tests available on a Debian-like machine.
#
#   fetch.sh [--galera] [cache folder]
#
# MariaDB is installed with apt-get, unless mariadbd is there already. MySQL, which Debian has in its
# unstable suite alone, is not installed: its packages are unpacked into "mysql" below the cache folder
# (by default namedlock in the user's cache folder, where the tests look for it) and nothing else on the
# machine changes. With --galera, what a Galera cluster needs is installed too.
#
# Installing needs root; unpacking MySQL does not. What is there already is left alone, so a second run
# does nothing.

set -euo pipefail

say() { printf 'fetch: %s\n' "$*"; }
die() { printf 'fetch: %s\n' "$*" >&2; exit 1; }

galera=
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/namedlock
for arg in "$@"; do
	case $arg in
	--galera) galera=yes ;;
	-*) die "unknown option $arg; usage: fetch.sh [--galera] [cache folder]" ;;
	*) cache=$arg ;;
	esac
done

work=
policy=
cleanup() {
	if [ -n "$work" ]; then rm -rf "$work"; fi
	if [ -n "$policy" ]; then rm -f "$policy"; fi
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# Mirrors have bad moments: three attempts.
retry() {
	local attempt
	for attempt in 1 2 3; do
		if "$@"; then return; fi
		say "attempt $attempt of 3 failed: $1 $2"
	done
	return 1
}

# A package's maintainer script asks policy-rc.d whether it may start a service: it may not.
forbid_services() {
	if [ -e /usr/sbin/policy-rc.d ]; then return; fi
	policy=/usr/sbin/policy-rc.d
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
}

apt_update() {
	LC_ALL=C apt-get -q -o APT::Update::Error-Mode=any "$@" update
}

# --no-remove: a MySQL server that the machine has is never replaced by MariaDB.
install_packages() {
	[ "$(id -u)" = 0 ] || die "installing $* needs root"
	say "installing $*"
	forbid_services
	retry apt_update || die "apt-get update failed"
	retry env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends --no-remove install "$@" ||
		die "apt-get could not install $*"
}

have() { PATH=$PATH:/usr/sbin:/usr/local/sbin command -v "$1" >/dev/null; }

fetch_mariadb() {
	if have mariadbd; then
		say "MariaDB is installed"
	else
		install_packages mariadb-server
	fi
}

fetch_galera() {
	local missing=() package
	for package in galera-4 rsync socat; do
		if ! dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed; then
			missing+=("$package")
		fi
	done
	if [ ${#missing[@]} = 0 ]; then
		say "Galera is installed"
	else
		install_packages "${missing[@]}"
	fi
}

# The address of the Debian archive in the machine's own apt configuration, whatever its format.
# The origin is known only to an apt that has been updated, the component always.
mirror() {
	apt-get indextargets --format '$(COMPONENT) $(ORIGIN)/$(LABEL) $(REPO_URI)' 'Created-By: Packages' |
		awk '$1 == "main" && $NF !~ /security/ {
			if ($2 == "Debian/Debian" && !known) known = $NF
			if (!any) any = $NF
		}
		END { print known ? known : any }'
}

keyring() {
	local file
	for file in /usr/share/keyrings/debian-archive-keyring.{pgp,gpg}; do
		if [ -r "$file" ]; then
			printf '%s\n' "$file"
			return
		fi
	done
}

fetch_mysql() {
	local uri keys options package

	if [ -x "$cache/mysql/usr/sbin/mysqld" ]; then
		say "MySQL is in $cache/mysql"
		return
	fi

	uri=$(mirror)
	[ -n "$uri" ] || die "no Debian archive in the apt configuration of this machine; install MySQL another way"
	keys=$(keyring)

	mkdir -p "$cache"
	work=$(mktemp -d "$cache/fetch.XXXXXX")
	mkdir -p "$work/state/lists/partial" "$work/archives/partial" "$work/root"
	: >"$work/status"
	printf 'deb%s %s sid main\n' "${keys:+ [signed-by=$keys]}" "$uri" >"$work/sources.list"

	# An apt with lists, cache and an empty package status of its own; proxies and credentials of the
	# machine's apt stay in force. Alone it may run as any user, and needs no lock.
	options=(
		-o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null
		-o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null
		-o Dir::State="$work/state" -o Dir::State::Lists="$work/state/lists" -o Dir::State::Status="$work/status"
		-o Dir::Cache="$work" -o Dir::Cache::Archives="$work/archives"
		-o APT::Default-Release= -o APT::Sandbox::User= -o Debug::NoLocking=1
		-o Acquire::Languages=none
	)

	say "downloading MySQL from Debian's suite sid (about 60 MB)"
	retry apt_update "${options[@]}" || die "apt-get update of suite sid failed"
	retry apt-get -q -y "${options[@]}" --no-install-recommends --download-only install mysql-server-core ||
		die "apt-get could not download mysql-server-core"

	say "unpacking"
	for package in "$work"/archives/*.deb; do
		dpkg -x "$package" "$work/root"
	done
	[ -x "$work/root/usr/sbin/mysqld" ] || die "the packages hold no usr/sbin/mysqld"

	if [ ! -x "$cache/mysql/usr/sbin/mysqld" ]; then rm -rf "$cache/mysql"; fi
	mv -T "$work/root" "$cache/mysql"
	say "MySQL is in $cache/mysql"
}

command -v apt-get >/dev/null && command -v dpkg >/dev/null ||
	die "this script needs apt-get and dpkg; elsewhere install MariaDB and MySQL so that mariadbd and mysqld are on PATH"

fetch_mariadb
if [ -n "$galera" ]; then fetch_galera; fi
fetch_mysql
