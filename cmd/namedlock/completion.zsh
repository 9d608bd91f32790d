#compdef namedlock
# Completion of namedlock for zsh. In ~/.zshrc, after compinit:  eval "$(namedlock completion zsh)"
# Or save it as _namedlock in a directory of $fpath.

# _namedlock_names offers the locks that are held.
_namedlock_names() {
	(( ${words[(I)-dsn]} )) && return 1
	local -a names server
	local i=${words[(I)-defaults-file]}
	(( i )) && server=(-defaults-file ${(Q)${words[i + 1]/#\~\//$HOME/}})
	names=(${(f)"$(command namedlock names $server -- ${(Q)PREFIX} 2>/dev/null)"})
	compadd -a names
}

_namedlock() {
	if ((CURRENT == 2)); then
		local -a commands=(
			'run:run a command under locks'
			'lead:keep a command running on one of many machines'
			'held:check whether this process runs under a lock'
			'holder:print the holder of a lock'
			'list:list all held locks'
			'check:check whether the server is suitable for locks'
			'completion:print a completion script'
			'help:print flags and exit codes'
			'version:print the version'
		)
		_describe command commands
		return
	fi
	local verb=$words[2]
	shift words
	((CURRENT--))
	local -a flags=(
		'-dsn[user\:password@tcp(host\:3306)/]:DSN: '
		'-defaults-file[a MySQL option file]:file:_files'
	)
	local -a job=(
		'-grace[how long the command has to end after SIGTERM]:duration: '
		'-quiet[do not report a busy lock, an outage, a failure, or processes left behind]'
		'-verbose[report every step]'
	)
	case $verb in
	run | lead)
		local dashes=${words[(i)--]}
		if ((dashes > 1 && dashes < CURRENT)); then # a command follows
			shift $dashes words
			((CURRENT -= dashes))
			_normal
			return
		fi
		if [[ $verb == run ]]; then
			job+=(
				'-timeout[how long to wait for the lock]:timeout:(0 5s 1m forever)'
				'-retry[how long to retry a server that is unreachable at the start]:duration:(0 5s 1m forever)'
				'-exit-busy[the exit code if the lock was not acquired in time]:code: '
				'-slots[how many commands may run at a time]:number: '
				'-at-least[how long to hold the lock at least]:duration:(30s 5m 1h)'
				'-at-most[how long the command may run]:duration:(30s 5m 1h)'
			)
		fi
		_arguments $flags $job '*:lock:_namedlock_names'
		;;
	held) _arguments $flags ':lock: ' ;;
	holder) _arguments $flags '-json[print JSON]' ':lock:_namedlock_names' ;;
	list) _arguments $flags '-json[print JSON]' ':prefix:_namedlock_names' ;;
	check) _arguments $flags '-json[print JSON]' ;;
	completion) _arguments ':shell:(bash zsh)' ;;
	esac
}

if [[ $funcstack[1] == _namedlock ]]; then
	_namedlock "$@"
else
	compdef _namedlock namedlock
fi
