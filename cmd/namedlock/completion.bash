# Completion of namedlock for bash. In ~/.bashrc:  eval "$(namedlock completion bash)"

# _namedlock_names offers the held locks. $1 is the word at the cursor, as it
# was typed. bash splits a word at each : and =, and replaces only the last
# part.
_namedlock_names() {
	local line=${COMP_LINE:0:COMP_POINT} word=$1 i=$COMP_CWORD typed name reply quote= server=()
	while ((i > 2)) && [[ $line == *"${COMP_WORDS[i - 1]}$word" ]]; do
		word=${COMP_WORDS[--i]}$word
	done
	case $word in
	[\"\']*) quote=${word:0:1} typed=${word:1} ;;
	*[\"\'\`\$]*) return ;;
	*) typed=${word//\\/} ;;
	esac
	for ((i = 2; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		-dsn | --dsn) return ;; # it is split, too
		-defaults-file | --defaults-file) server=(-defaults-file "${COMP_WORDS[i + 1]/#\~\//$HOME/}") ;;
		esac
	done
	while IFS= read -r name; do
		if [[ $quote ]]; then
			[[ $name == *[\"\'\`\$\\!]* ]] || COMPREPLY+=("$name")
		else
			printf -v reply %q "$name"
			COMPREPLY+=("${reply#"${word%"$1"}"}")
		fi
	done < <(command namedlock names "${server[@]}" -- "$typed" 2>/dev/null)
}

_namedlock() {
	local cur=${COMP_WORDS[COMP_CWORD]} i
	COMPREPLY=()
	if ((COMP_CWORD == 1)); then
		COMPREPLY=($(compgen -W "run lead held holder list check completion help version" -- "$cur"))
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
		# A command follows. If the package bash-completion is installed, it
		# completes as it does without namedlock.
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
	*)
		if [[ $cur == -* ]]; then
			COMPREPLY=($(compgen -W "$flags" -- "$cur"))
		elif [[ ${COMP_WORDS[1]} != check ]]; then
			_namedlock_names "$cur"
		fi
		;;
	esac
}

complete -F _namedlock namedlock
