# Completion of flytectl(1) for fish: the command itself knows its words; names come from the daemon.
function __flytectl_complete
    set -l answer (env _FLYTECTL_COMPLETE=fish_complete COMP_WORDS=(commandline -cp) COMP_CWORD=(commandline -t) flytectl 2>/dev/null)
    for each in $answer
        set -l kind_word (string split "," -m 1 -- $each)
        switch $kind_word[1]
            case dir
                __fish_complete_directories $kind_word[2]
            case file
                __fish_complete_path $kind_word[2]
            case plain
                echo $kind_word[2]
        end
    end
end
complete --no-files --command flytectl --arguments "(__flytectl_complete)"
