# Completion of ops-updater and its control for bash. To install it: cp ops-updater.bash /etc/bash_completion.d/ops-updater
# shellcheck shell=bash

# Prints the agents of the last accepted desired state. Its file is in the directory of the configuration. The pattern lets
# only valid names through, because compgen expands its words.
_ops_updater_agents() {
    local state
    state=$(dirname -- "$1")/desired_agent.json
    [ -r "$state" ] || return 0
    tr '{,' '[\n*]' <"$state" |
        sed -n 's/^[[:space:]]*"name"[[:space:]]*:[[:space:]]*"\([A-Za-z0-9][A-Za-z0-9._+-]*\)".*/\1/p'
}

_ops_updater_words() {
    local commands='status plan check doctor pid help once apply pin unpin rollback retry hold release'
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} config=$1 command='' at word
    for ((at = 1; at < COMP_CWORD; at++)); do
        word=${COMP_WORDS[at]}
        case $word in
        -c | --config)
            at=$((at + 1))
            # bash splits a `=` off as a word of its own.
            [ "${COMP_WORDS[at]}" != = ] || at=$((at + 1))
            config=${COMP_WORDS[at]}
            ;;
        -*) ;;
        *) [ -n "$command" ] || command=$word ;;
        esac
    done
    COMPREPLY=() word=
    case $prev in
    -c | --config | =)
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        compopt -o filenames 2>/dev/null
        return
        ;;
    esac
    case $command:$cur in
    status:-*) word='--json --wait --help' ;;
    plan:-* | check:-* | doctor:-*) word='--json --help' ;;
    once:-* | apply:-?*) word='--detailed-exitcode --help' ;;
    :-*) word='-c --config -v --version -h --help' ;;
    *:-?*) word='--config --help' ;;
    :*) word=$commands ;;
    help:*) [ "$prev" != help ] || word=$commands ;;
    pin:* | unpin:* | rollback:* | retry:*)
        [ "$prev" != "$command" ] || word=$(_ops_updater_agents "${config/#\~/$HOME}")
        ;;
    apply:*)
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        compopt -o filenames 2>/dev/null
        return
        ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$word" -- "$cur")
}

_ops_updater() { _ops_updater_words cfg.json; }

# Completes only a control that lies beside the binary: agents and other programs have scripts of this name too.
_ops_updater_control() {
    local own passed='plan check doctor once apply pin unpin rollback retry hold release'
    own=$(dirname -- "${1/#\~/$HOME}")
    COMPREPLY=()
    if ! [ -f "$own/ops-updater" ]; then
        compopt -o default 2>/dev/null
    elif [ "$COMP_CWORD" = 1 ]; then
        passed+=' start stop restart status tail pid reload sync upgrade revert help'
        mapfile -t COMPREPLY < <(compgen -W "$passed" -- "${COMP_WORDS[1]}")
    elif [ "${COMP_WORDS[1]}" = upgrade ]; then
        compopt -o default 2>/dev/null
    elif [[ " $passed " == *" ${COMP_WORDS[1]} "* ]]; then
        _ops_updater_words "$own/cfg.json"
    fi
}

complete -F _ops_updater ops-updater
complete -F _ops_updater_control control
