//! `framehaul token`

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::failure::{EXIT_CODES, Failure, Kind, finish, note, print};
use super::table::{Table, terminal};
use super::{ConfigArgs, Format};
use crate::http::tokens::{self, Scope, TokenName};

#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

const EXAMPLES: &str = "Examples:
  framehaul token new grafana --scope read --config /etc/framehaul/config.toml
  framehaul token ls --format json
  framehaul token rm grafana

Whether the daemon runs does not matter; a running one notices at once. Run these as the user that it runs as.";

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token and show it, this once.
    New {
        /// Whose it is: a-z, 0-9, `_` and `-`.
        name: TokenName,
        /// What its owner may do: `read`, `operate`, which includes read, or `worker`: take export tasks, and nothing else.
        #[arg(long)]
        scope: Scope,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// List tokens; they themselves are kept nowhere.
    Ls {
        /// For people or for programs.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Remove tokens; the next request that carries one is turned away.
    Rm {
        /// Whose.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<TokenName>,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

pub fn run(args: &TokenArgs) -> ExitCode {
    let (TokenCommand::New { config, .. } | TokenCommand::Ls { config, .. } | TokenCommand::Rm { config, .. }) =
        &args.command;
    let state_dir = match super::load(config) {
        Ok(settings) => settings.state_dir,
        Err(code) => return code,
    };
    let failed = |error: anyhow::Error| Failure::new(Kind::Other, format!("{error:#}"));
    finish(match &args.command {
        TokenCommand::New { name, scope, .. } => {
            tokens::make(&state_dir, name.clone(), *scope).map_err(failed).and_then(|token| {
                note(format_args!("token `{name}`, scope {}: keep it now, it is not shown again", scope.as_str()));
                print(format_args!("{}\n", token.expose()))
            })
        }
        TokenCommand::Ls { format, .. } => {
            tokens::list(&state_dir).map_err(failed).and_then(|tokens| print(show(&tokens, *format)))
        }
        TokenCommand::Rm { names, .. } => {
            let mut result = Ok(());
            for name in names {
                let removed = tokens::remove(&state_dir, name).map_err(failed).and_then(|there| {
                    let missing = || {
                        Failure::new(Kind::NotFound, format!("there is no token `{name}`: see `framehaul token ls`"))
                    };
                    there.then(|| note(format_args!("removed token `{name}`"))).ok_or_else(missing)
                });
                result = result.and(removed.map_err(Failure::tell));
            }
            result
        }
    })
}

fn show(tokens: &[tokens::NamedToken], format: Format) -> String {
    match format {
        Format::Json => {
            let shown = |token: &tokens::NamedToken| serde_json::json!({ "name": token.name, "scope": token.scope, "created": token.created });
            let tokens: Vec<_> = tokens.iter().map(shown).collect();
            format!("{}\n", serde_json::json!({ "tokens": tokens }))
        }
        Format::Table => {
            let mut table = Table::new(["NAME", "SCOPE", "CREATED"]);
            for token in tokens {
                table.row([token.name.to_string(), token.scope.as_str().to_owned(), token.created.clone()]);
            }
            table.render(terminal().map(|(width, _)| width))
        }
    }
}
