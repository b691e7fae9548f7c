//! `framehaul tasks`: export tasks as people write them into sheets.

mod show;

use std::fs::File;
use std::io::{ErrorKind, IsTerminal as _, Read as _, Write as _, stdin, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use super::Format;
use super::failure::{Failure, Kind, finish, note, print};
use crate::sheet::{self, Sheet, SheetError};

#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub struct TasksArgs {
    #[command(subcommand)]
    command: TasksCommand,
}

const EXAMPLES: &str = "Examples:
  framehaul tasks template > tasks.xlsx
  framehaul tasks template --format csv > tasks.csv
  framehaul tasks check tasks.xlsx
  framehaul tasks check tasks.csv --format json

A sheet is an Excel workbook (.xlsx), CSV (UTF-8; commas, semicolons or tabs) or JSON (a list of objects). Its columns stand in
any order under their names; four columns without names we know are user, password, address and channels. Nothing of a
sheet with an error in it is accepted, and no password is shown. docs/sheets.md lists all columns.";

const EXIT_CODES: &str = "Exit codes:
  0 done   1 failed   2 wrong usage   65 something is wrong in the sheet   66 no such file";

#[derive(Debug, Subcommand)]
enum TasksCommand {
    /// Write an empty sheet with an example to standard output.
    Template {
        /// In which form.
        #[arg(long, value_enum, default_value_t)]
        format: TemplateFormat,
    },
    /// Show what a sheet asks for, or all that is wrong with it, by row and cell.
    Check {
        /// The sheet, or `-` for standard input.
        file: PathBuf,
        /// For people or for programs.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

/// In which form a template is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
enum TemplateFormat {
    /// An Excel workbook.
    #[default]
    Xlsx,
    /// Values separated by commas.
    Csv,
}

pub fn run(args: &TasksArgs) -> ExitCode {
    finish(match &args.command {
        TasksCommand::Template { format } => template(*format),
        TasksCommand::Check { file, format } => check(file, *format),
    })
}

fn template(format: TemplateFormat) -> Result<(), Failure> {
    if format == TemplateFormat::Csv {
        return print(sheet::template_csv());
    }
    if stdout().is_terminal() {
        let way =
            "a workbook is nothing for a terminal: write `framehaul tasks template > tasks.xlsx`, or --format csv";
        return Err(Failure::new(Kind::Usage, way));
    }
    let bytes = sheet::template_xlsx()
        .map_err(|error| Failure::new(Kind::Other, format!("cannot make the workbook: {error}")))?;
    let mut out = stdout().lock();
    out.write_all(&bytes).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Failure::Unread,
        _ => Failure::new(Kind::Other, format!("cannot write to standard output: {error}")),
    })
}

fn check(file: &Path, format: Format) -> Result<(), Failure> {
    let bytes = content(file)?;
    match sheet::read(&bytes) {
        Ok(sheet) => {
            // What it was read from is not needed any more, and may be as large as all tasks together.
            drop(bytes);
            accepted(&sheet, format)
        }
        Err(error) => Err(refused(file, &error, format)),
    }
}

fn accepted(sheet: &Sheet, format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return show::json(sheet);
    }
    show::table(sheet)?;
    for remark in &sheet.remarks {
        note(format_args!("note: {remark}"));
    }
    for task in &sheet.tasks {
        for remark in &task.remarks {
            note(format_args!("note: row {}: {remark}", task.row));
        }
    }
    let on = sheet.tasks.iter().filter(|task| task.enabled).count();
    note(format_args!("{} of {} tasks are switched on", on, sheet.tasks.len()));
    Ok(())
}

fn refused(file: &Path, error: &SheetError, format: Format) -> Failure {
    if format == Format::Json {
        return show::faults(error).err().unwrap_or(Failure::Told(Kind::Refused));
    }
    match error {
        SheetError::Refused(why) => Failure::new(Kind::Refused, format!("{}: {why}", file.display())),
        SheetError::Cells { faults, more } => {
            for fault in faults {
                note(format_args!("error: {}", super::table::plain(&fault.to_string())));
            }
            if *more > 0 {
                note(format_args!("error: and {more} more"));
            }
            Failure::Told(Kind::Refused)
        }
    }
}

/// A file's bytes, or one more than a sheet may have.
fn content(file: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error: std::io::Error| {
        let kind = if error.kind() == ErrorKind::NotFound { Kind::NotFound } else { Kind::Other };
        Failure::new(kind, format!("cannot read {}: {error}", file.display()))
    };
    let most = sheet::MAX_BYTES as u64 + 1;
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        stdin().lock().take(most).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        let opened = File::open(file).map_err(failed)?;
        let length = opened.metadata().map_err(failed)?.len().min(most);
        bytes.reserve_exact(usize::try_from(length).unwrap_or(0) + 1);
        opened.take(most).read_to_end(&mut bytes).map_err(failed)?;
    }
    Ok(bytes)
}
