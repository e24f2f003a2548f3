# Completion of flytectl(1) for bash: the command itself knows its words; names come from the daemon.
_flytectl() {
    local kind word
    COMPREPLY=()
    while IFS=, read -r kind word; do
        case $kind in
            dir) compopt -o dirnames 2>/dev/null ;;
            file) compopt -o default 2>/dev/null ;;
            plain) COMPREPLY+=("$word") ;;
        esac
    done < <(COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD _FLYTECTL_COMPLETE=bash_complete "$1" 2>/dev/null)
}
complete -o nosort -F _flytectl flytectl
