# Completion of ops-updater and its control for fish, which looks for a file of the name of each. To install it:
#   cd /usr/share/fish/vendor_completions.d && cp /opt/ops-updater/ops-updater.fish . && ln -s ops-updater.fish control.fish

# Prints the words before the cursor that are neither an option nor the file of -c: the program, a command and its operands.
function __ops_updater_words
    set -l is_file 0
    for word in (commandline -opc)
        if test $is_file = 1
            set is_file 0
        else if contains -- $word -c --config
            set is_file 1
        else if not string match -q -- '-*' $word
            echo $word
        end
    end
end

# Whether the cursor is at the command.
function __ops_updater_at_command
    test (count (__ops_updater_words)) = 1
end

# Whether the cursor is after one of these commands.
function __ops_updater_after
    set -l words (__ops_updater_words)
    test (count $words) -ge 2; and contains -- $words[2] $argv
end

# Whether the cursor is at the first operand of one of these commands.
function __ops_updater_operand_of
    test (count (__ops_updater_words)) = 2; and __ops_updater_after $argv
end

# Whether the control that is typed lies beside the binary: agents and other programs have scripts of this name too.
function __ops_updater_is_own_control
    set -l typed (commandline -opc)
    test -f (dirname -- (string replace -r '^~/' "$HOME/" -- $typed[1]))/ops-updater
end

# Prints the agents of the last accepted desired state. Its file is in the directory of the configuration.
function __ops_updater_agents
    set -l typed (commandline -opc)
    set -l config cfg.json
    string match -q -- '*control' $typed[1]; and set config (dirname -- $typed[1])/cfg.json
    set -l is_file 0
    for word in $typed
        test $is_file = 1; and set config $word
        set is_file 0
        contains -- $word -c --config; and set is_file 1
        string match -q -- '--config=*' $word; and set config (string replace -- --config= '' $word)
    end
    set -l state (dirname -- (string replace -r '^~/' "$HOME/" -- $config))/desired_agent.json
    test -r $state; or return
    tr '{,' '[\n*]' <$state |
        sed -n 's/^[[:space:]]*"name"[[:space:]]*:[[:space:]]*"\([A-Za-z0-9][A-Za-z0-9._+-]*\)".*/\1/p'
end

# Prints the commands of the binary that control passes on, with a description.
function __ops_updater_passed
    printf '%s\t%s\n' plan 'what a round would do now' \
        check 'check cfg.json and print the settings in force' \
        doctor 'check for problems that would keep the updater from working' \
        once 'run one round in the foreground' \
        apply 'run one round for a desired state of your own' \
        pin 'keep an agent at a version' \
        unpin 'let the server choose again' \
        rollback 'pin an agent to the version that ran before' \
        retry 'forget failures and try now' \
        hold 'change nothing on this host' \
        release 'end the hold'
end

function __ops_updater_commands
    printf '%s\t%s\n' status 'what the updater did, does and will do' \
        pid 'print the pid of the running updater' \
        help 'print help'
    __ops_updater_passed
end

function __ops_updater_control_commands
    printf '%s\t%s\n' start 'run the updater in the background' \
        stop 'stop the updater' \
        restart 'stop and start, if cfg.json is right' \
        status 'print started or stoped' \
        tail 'follow var/app.log' \
        pid 'print the pid of the running updater' \
        reload 'read cfg.json again, if it is right' \
        sync 'send the next heartbeat now' \
        upgrade 'install another release of the updater' \
        revert 'go back to the release before' \
        help 'print help'
    __ops_updater_passed
end

# fish reads this file once for each name.
complete -e -c ops-updater
complete -e -c control

complete -c ops-updater -f
complete -c ops-updater -s c -l config -r -F -d 'the configuration'
complete -c ops-updater -s v -d 'print the version'
complete -c ops-updater -l version -d 'print name, version and arch'
complete -c ops-updater -s h -l help -d 'print help'
complete -c ops-updater -n '__ops_updater_at_command; or __ops_updater_operand_of help' -a '(__ops_updater_commands)'
complete -c ops-updater -n '__ops_updater_after status' -l json -d 'print JSON, for programs'
complete -c ops-updater -n '__ops_updater_after status' -l wait -d 'wait until all is as desired'

complete -c control -n __ops_updater_is_own_control -f
complete -c control -n '__ops_updater_is_own_control; and __ops_updater_at_command' -a '(__ops_updater_control_commands)'
complete -c control -n '__ops_updater_is_own_control; and __ops_updater_operand_of upgrade' -F

for name in ops-updater control
    set -l own true
    test $name = control; and set own __ops_updater_is_own_control
    complete -c $name -n "$own; and __ops_updater_after plan check doctor" -l json -d 'print JSON, for programs'
    complete -c $name -n "$own; and __ops_updater_after once apply" -l detailed-exitcode -d 'exit with 4 if changes were made'
    complete -c $name -n "$own; and __ops_updater_operand_of apply" -F
    complete -c $name -n "$own; and __ops_updater_operand_of pin unpin rollback retry" -a '(__ops_updater_agents)' -d agent
end
