//! Scripts that complete the words of a shell. What commands there are is asked of the node.

use std::process::ExitCode;

const BASH: &str = r#"_tandemctl() {
    local cur=${COMP_WORDS[COMP_CWORD]}
    local own="status routes db user completion fifo --url --fifo --reply-dir --timeout --json --db --plain"
    case ${COMP_WORDS[COMP_CWORD-1]} in
        db) COMPREPLY=($(compgen -W "create upgrade" -- "$cur")); return ;;
        user) COMPREPLY=($(compgen -W "add passwd rm list" -- "$cur")); return ;;
        completion) COMPREPLY=($(compgen -W "bash zsh fish" -- "$cur")); return ;;
        routes) COMPREPLY=($(compgen -W "test refused" -- "$cur")); return ;;
        --group|--time|--partition) return ;;
        --fifo|--reply-dir) COMPREPLY=($(compgen -f -- "$cur")); return ;;
    esac
    if [[ " ${COMP_WORDS[*]} " == *" routes "* ]]; then
        COMPREPLY=($(compgen -W "--group --time --partition --json" -- "$cur")); return
    fi
    local words
    words="$own $(tandemctl --json which 2>/dev/null | tr -d '[]", ')"
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
    __ltrim_colon_completions "$cur" 2>/dev/null
}
complete -F _tandemctl tandemctl
"#;

const ZSH: &str = r#"#compdef tandemctl
_tandemctl() {
    local -a all
    case $words[CURRENT-1] in
        db) all=(create upgrade) ;;
        user) all=(add passwd rm list) ;;
        completion) all=(bash zsh fish) ;;
        routes) all=(test refused) ;;
        test) all=(--group --time --partition --json) ;;
        *)
            all=(status routes db user completion fifo --url --fifo --reply-dir --timeout --json)
            all+=(${(f)"$(tandemctl --json which 2>/dev/null | tr -d '[]", ')"})
            ;;
    esac
    compadd -a all
}
compdef _tandemctl tandemctl
"#;

const FISH: &str = r#"complete -c tandemctl -f
complete -c tandemctl -n __fish_use_subcommand -a 'status routes db user completion fifo'
complete -c tandemctl -n __fish_use_subcommand -a "(tandemctl --json which 2>/dev/null | tr -d '[]\", ')"
complete -c tandemctl -n '__fish_seen_subcommand_from db' -a 'create upgrade'
complete -c tandemctl -n '__fish_seen_subcommand_from user' -a 'add passwd rm list'
complete -c tandemctl -n '__fish_seen_subcommand_from completion' -a 'bash zsh fish'
complete -c tandemctl -n '__fish_seen_subcommand_from routes' -a 'test refused'
complete -c tandemctl -n '__fish_seen_subcommand_from routes' -l group -r
complete -c tandemctl -n '__fish_seen_subcommand_from routes' -l time -r
complete -c tandemctl -n '__fish_seen_subcommand_from routes' -l partition -r
for option in url fifo reply-dir timeout db
    complete -c tandemctl -l $option -r
end
complete -c tandemctl -l json
complete -c tandemctl -l plain
"#;

/// `completion SHELL`.
pub(crate) fn print(words: &[String]) -> Result<ExitCode, String> {
    let script = match words {
        [shell] if shell == "bash" => BASH,
        [shell] if shell == "zsh" => ZSH,
        [shell] if shell == "fish" => FISH,
        _ => return Err("write completion bash, zsh or fish".into()),
    };
    print!("{script}");
    Ok(ExitCode::SUCCESS)
}
