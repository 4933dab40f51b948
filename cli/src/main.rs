//! `redress`: the operator's command.
//!
//! It reads the ledger, asks the api for what is to be changed, and runs the lab. It changes no resource and no
//! setting itself and assumes no role that could: what it asks for goes the same way as any finding. What rolls Redress
//! out is apart ([`deploy`]), with the credentials of whoever may do that; what breaks things ([`gameday`]) does so in
//! the lab alone.

mod api;
mod approvals;
mod args;
mod attempt;
mod audit;
mod author;
mod aws;
mod breaker;
mod campaign;
mod case;
mod controls;
mod demo;
mod deploy;
mod dlq;
mod evidence;
mod exemption;
#[cfg(test)]
mod fixture;
mod gameday;
mod host;
mod lab;
mod ledger;
mod notify;
mod output;
mod policy;
mod problem;
mod report;
mod request;
mod running;
mod settings;
mod timeline;
mod why;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use redress_common::items::settings::Switch;

use crate::args::{Arguments, Command};
use crate::aws::Connection;
use crate::output::{Answer, Output};
use crate::problem::{Exit, Problem};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let output = Output::new(&arguments.global);
    let done = tokio::runtime::Runtime::new()
        .map_err(|error| Problem::aws("start", &error))
        .and_then(|runtime| runtime.block_on(run(arguments, output)));
    let exit = match &done {
        Ok(answer) => output.answer(answer),
        Err(problem) => output.problem(problem),
    };
    ExitCode::from(exit as u8)
}

async fn run(arguments: Arguments, output: Output) -> Result<Answer, Problem> {
    let global = &arguments.global;
    let style = output.style();
    match arguments.command {
        Command::Lab(command) => lab::run(command, output).await,
        Command::Gameday(command) => gameday::run(command, global, output).await,
        Command::Approvals(command) => approvals::run(command, &Connection::new(global).await?, output).await,
        Command::Controls(command) => controls::run(&command, style),
        Command::Completion { shell } => completion(shell),
        Command::Audit(command) => audit::run(command, global, output).await,
        Command::Case(command) => case::run(command, &Connection::new(global).await?, output).await,
        Command::Report(asked) => report::run(*asked, global, output).await,
        Command::Why { id } => why::run(id, &Connection::new(global).await?, style).await,
        Command::Undo(undo) => request::undo(undo, &Connection::new(global).await?, output).await,
        Command::Contain(contain) => request::contain(contain, &Connection::new(global).await?, output).await,
        Command::Remediate(remediate) => request::remediate(remediate, &Connection::new(global).await?, output).await,
        Command::Settings(command) => settings::run(command, &Connection::new(global).await?, style).await,
        Command::Policy(command) => policy::run(command, global, style).await,
        Command::Exemption(command) => exemption::run(command, &Connection::new(global).await?, style).await,
        Command::Dlq(command) => dlq::run(command, &Connection::new(global).await?, style).await,
        Command::Campaign(command) => campaign::run(command, &Connection::new(global).await?, style).await,
        Command::Notify(command) => notify::run(command, global, style).await,
        Command::Deploy(command) => deploy::run(command, global, output).await,
        Command::Breaker(command) => breaker::run(command, &Connection::new(global).await?, style).await,
        Command::Off(what) => settings::switch(Switch::Off, what, &Connection::new(global).await?, style).await,
        Command::On(what) => settings::switch(Switch::On, what, &Connection::new(global).await?, style).await,
        Command::Observe(what) => settings::switch(Switch::Observe, what, &Connection::new(global).await?, style).await,
    }
}

fn completion(shell: clap_complete::Shell) -> Result<Answer, Problem> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "redress", &mut script);
    output::print(&String::from_utf8_lossy(&script));
    Ok(Answer::silent(Exit::Done))
}
