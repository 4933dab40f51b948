//! `redress-runbooks generate` writes what is generated from the control files; `check` says what is stale.
//! `cargo xtask` runs both.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use redress_runbooks::write;

/// Compile the control files to runbooks, roles and the catalogue.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// The repository's root.
    #[arg(long, global = true, default_value = ".")]
    root: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Write the generated files.
    Generate {
        /// Write nothing; fail when a file is stale.
        #[arg(long)]
        check: bool,
    },
    /// Fail when a generated file is stale.
    Check,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Command::Generate { check: false } => write::generate(&arguments.root).map(|changed| {
            for path in &changed {
                println!("wrote {path}");
            }
        }),
        Command::Generate { check: true } | Command::Check => write::check(&arguments.root),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("redress-runbooks: {error}");
            ExitCode::FAILURE
        }
    }
}
