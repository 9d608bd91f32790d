# Completion of namedlock for bash. In ~/.bashrc:  eval "$(namedlock completion bash)"

_namedlock() {
	local cur=${COMP_WORDS[COMP_CWORD]} i
	COMPREPLY=()
	if ((COMP_CWORD == 1)); then
		COMPREPLY=($(compgen -W "run lead held holder list check completion help" -- "$cur"))
		return
	fi
	local flags="-dsn -defaults-file"
	case ${COMP_WORDS[1]} in
	run) flags+=" -timeout -retry -exit-busy -slots -at-least -at-most -grace -quiet -verbose" ;;
	lead) flags+=" -grace -quiet -verbose" ;;
	held) ;;
	holder | list | check) flags+=" -json" ;;
	completion)
		COMPREPLY=($(compgen -W "bash zsh" -- "$cur"))
		return
		;;
	*) return ;;
	esac

	for ((i = 3; i < COMP_CWORD; i++)); do
		[[ ${COMP_WORDS[i]} == -- ]] || continue
		# A command stands there. It completes as it does alone, if the package bash-completion is installed.
		if declare -F _comp_command_offset >/dev/null; then
			_comp_command_offset $((i + 1))
		elif declare -F _command_offset >/dev/null; then
			_command_offset $((i + 1))
		elif ((COMP_CWORD == i + 1)); then
			COMPREPLY=($(compgen -c -- "$cur"))
		else
			compopt -o filenames
			COMPREPLY=($(compgen -f -- "$cur"))
		fi
		return
	done

	case ${COMP_WORDS[COMP_CWORD - 1]} in
	-defaults-file)
		compopt -o filenames
		COMPREPLY=($(compgen -f -- "$cur"))
		;;
	-timeout | -retry) COMPREPLY=($(compgen -W "0 5s 1m forever" -- "$cur")) ;;
	-at-least | -at-most) COMPREPLY=($(compgen -W "30s 5m 1h" -- "$cur")) ;;
	-dsn | -exit-busy | -slots | -grace) ;;
	*) [[ $cur != -* ]] || COMPREPLY=($(compgen -W "$flags" -- "$cur")) ;;
	esac
}

complete -F _namedlock namedlock
