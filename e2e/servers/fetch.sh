#!/usr/bin/env bash
#
# Makes the database servers of the end-to-end tests available on a Debian-like machine.
#
#   fetch.sh [--galera] [--all] [cache folder]
#
# MariaDB is installed with apt-get, unless mariadbd is already on the machine. MySQL is only in Debian's
# unstable suite, and is not installed. Its packages are unpacked into "mysql" below the cache folder, and
# nothing else on the machine changes. The default cache folder is namedlock in the user's cache folder,
# where the tests look for it. With --galera, the packages for a Galera cluster are also installed. With
# --all, the rest of the matrix is unpacked, each program into a folder of its own: MariaDB 10.5 and 11.8,
# MySQL Router and HAProxy.
#
# Installing needs root; unpacking does not. Programs that are already on the machine stay as they are, so
# a second run does nothing.

set -euo pipefail

say() { printf 'fetch: %s\n' "$*"; }
die() { printf 'fetch: %s\n' "$*" >&2; exit 1; }

galera=
all=
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/namedlock
for arg in "$@"; do
	case $arg in
	--galera) galera=yes ;;
	--all) galera=yes all=yes ;;
	-*) die "unknown option $arg; usage: fetch.sh [--galera] [--all] [cache folder]" ;;
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

# Mirrors fail at times, so there are three attempts.
retry() {
	local attempt
	for attempt in 1 2 3; do
		if "$@"; then return; fi
		say "attempt $attempt of 3 failed: $1 $2"
	done
	return 1
}

# A package's maintainer script runs policy-rc.d to find out whether it may start a service. It must not.
forbid_services() {
	if [ -e /usr/sbin/policy-rc.d ]; then return; fi
	policy=/usr/sbin/policy-rc.d
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
}

apt_update() {
	LC_ALL=C apt-get -q -o APT::Update::Error-Mode=any "$@" update
}

# --no-remove keeps MariaDB from replacing a MySQL server of the machine.
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
# apt lists the origin only after an update, but always the component.
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

# unpack NAME FOLDER PROGRAM SUITE PACKAGE... unpacks packages of a suite, with their dependencies, into a
# folder below the cache. A suite with a plus includes its security archive.
unpack() {
	local name=$1 folder=$2 program=$3 suite=$4 uri keys signed options package
	shift 4

	if [ -x "$cache/$folder/$program" ]; then
		say "$name is in $cache/$folder"
		return
	fi

	uri=$(mirror)
	[ -n "$uri" ] || die "no Debian archive in the apt configuration of this machine; install $name another way"
	keys=$(keyring)
	signed=${keys:+ [signed-by=$keys]}

	mkdir -p "$cache"
	work=$(mktemp -d "$cache/fetch.XXXXXX")
	mkdir -p "$work/state/lists/partial" "$work/archives/partial" "$work/root"
	: >"$work/status"
	printf 'deb%s %s %s main\n' "$signed" "$uri" "${suite%+}" >"$work/sources.list"
	if [ "$suite" != "${suite%+}" ]; then
		printf 'deb%s %s %s main\n' "$signed" "${uri%/}-security" "${suite%+}-security" >>"$work/sources.list"
	fi

	# This apt has lists, a cache and an empty package status of its own. The proxies and credentials of the
	# machine's apt still apply. It may run as any user, and needs no lock.
	options=(
		-o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null
		-o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null
		-o Dir::State="$work/state" -o Dir::State::Lists="$work/state/lists" -o Dir::State::Status="$work/status"
		-o Dir::Cache="$work" -o Dir::Cache::Archives="$work/archives"
		-o APT::Default-Release= -o APT::Sandbox::User= -o Debug::NoLocking=1
		-o Acquire::Languages=none
	)

	say "downloading $name from Debian's suite ${suite%+}"
	retry apt_update "${options[@]}" || die "apt-get update of suite ${suite%+} failed"
	retry apt-get -q -y "${options[@]}" --no-install-recommends --download-only install "$@" ||
		die "apt-get could not download $*"

	say "unpacking"
	for package in "$work"/archives/*.deb; do
		dpkg -x "$package" "$work/root"
	done
	merge_usr "$work/root"
	[ -x "$work/root/$program" ] || die "the packages do not contain $program"

	if [ ! -x "$cache/$folder/$program" ]; then rm -rf "${cache:?}/$folder"; fi
	mv -T "$work/root" "$cache/$folder"
	rm -rf "$work"
	work=
	say "$name is in $cache/$folder"
}

# Packages from before the merge of /usr have both lib and usr/lib. The link to the dynamic linker
# leads from one to the other, from the root of the machine. After this step every suite has the same layout.
merge_usr() {
	local root=$1 folder link target
	for folder in lib lib64 bin sbin; do
		if [ -d "$root/$folder" ] && [ ! -L "$root/$folder" ]; then
			mkdir -p "$root/usr/$folder"
			cp -a "$root/$folder/." "$root/usr/$folder/"
			rm -rf "${root:?}/$folder"
			ln -s "usr/$folder" "$root/$folder"
		fi
	done
	for link in "$root"/usr/lib64/ld-linux*; do
		target=$(readlink "$link") || continue
		if [ "$target" != "${target#/lib/}" ]; then ln -sfn "..$target" "$link"; fi
	done
}

command -v apt-get >/dev/null && command -v dpkg >/dev/null ||
	die "this script needs apt-get and dpkg; elsewhere install MariaDB and MySQL so that mariadbd and mysqld are on PATH"

fetch_mariadb
if [ -n "$galera" ]; then fetch_galera; fi
unpack MySQL mysql usr/sbin/mysqld sid mysql-server-core
if [ -n "$all" ]; then
	unpack "MariaDB 10.5" mariadb-10.5 usr/sbin/mariadbd bullseye+ mariadb-server-10.5
	unpack "MariaDB 11.8" mariadb-11.8 usr/sbin/mariadbd trixie mariadb-server
	unpack "MySQL Router" mysql-router usr/bin/mysqlrouter sid mysql-router
	unpack HAProxy haproxy usr/sbin/haproxy bookworm haproxy
fi
