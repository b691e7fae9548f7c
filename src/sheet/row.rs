//! One row while a task is made of it.

use super::arguments;
use super::cell::Cell;
use super::column::{COLUMNS, Column};
use super::fault::Faults;
use super::task::Task;

/// Where each column stands in a sheet.
pub(super) type Places = [Option<usize>; COLUMNS.len()];

/// The values of a row, and a place for what is wrong with them.
pub(super) struct Row<'a> {
    number: u32,
    places: Places,
    values: [Option<Value>; COLUMNS.len()],
    remarks: Vec<String>,
    faults: &'a mut Faults,
    /// Faults before this row.
    before: usize,
}

struct Value {
    cell: Cell,
    place: Option<usize>,
    /// The option of a command line that said so.
    option: Option<&'static str>,
}

impl<'a> Row<'a> {
    pub(super) fn new(number: u32, places: Places, faults: &'a mut Faults) -> Self {
        let before = faults.count();
        Self { number, places, values: [const { None }; COLUMNS.len()], remarks: Vec::new(), faults, before }
    }

    /// Whether something was put there.
    pub(super) fn has(&self, column: Column) -> bool {
        self.values[column as usize].as_ref().is_some_and(|value| !value.cell.is_empty())
    }

    /// Puts what stands in a cell.
    pub(super) fn put(&mut self, column: Column, place: Option<usize>, cell: Cell) {
        self.values[column as usize] = Some(Value { cell, place, option: None });
    }

    /// Puts what an option of the command line in `args` says.
    pub(super) fn put_option(&mut self, column: Column, option: &'static str, text: String) {
        if self.has(column) {
            self.fault(Column::Args, &format!("says {option}, as the column `{}` does: write it once", column.name()));
            return;
        }
        let place = self.place(Column::Args);
        self.values[column as usize] = Some(Value { cell: Cell::Text(text), place, option: Some(option) });
    }

    /// Adds a sentence on how the row is read.
    pub(super) fn remark(&mut self, remark: String) {
        self.remarks.push(remark);
    }

    /// Adds what is wrong with the row itself.
    pub(super) fn complain(&mut self, why: String) {
        self.faults.add(self.number, None, None, why);
    }

    /// Adds what is wrong with a value.
    pub(super) fn fault(&mut self, column: Column, why: &str) {
        let option = self.values[column as usize].as_ref().and_then(|value| value.option);
        let place = self.place(column);
        match option {
            Some(option) => {
                self.faults.add(self.number, place, Some(Column::Args.name()), format!("{option} {why}"));
            }
            None => self.faults.add(self.number, place, Some(column.name()), why),
        }
    }

    /// Takes a value as it is.
    pub(super) fn take(&mut self, column: Column) -> Cell {
        let value = self.values[column as usize].as_mut();
        value.map_or(Cell::Empty, |value| std::mem::replace(&mut value.cell, Cell::Empty))
    }

    /// Takes a text; nothing where nothing stands there, or no text.
    pub(super) fn text(&mut self, column: Column) -> Option<String> {
        match self.take(column).into_text() {
            Ok(text) if text.is_empty() => None,
            Ok(text) => Some(text),
            Err(why) => {
                self.fault(column, &why);
                None
            }
        }
    }

    /// Takes a text and reads it.
    pub(super) fn read<T, E: AsRef<str>>(
        &mut self,
        column: Column,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(column)?;
        read(&text).map_err(|why| self.fault(column, why.as_ref())).ok()
    }

    /// The task, if nothing is wrong.
    pub(super) fn finish(mut self) -> Option<Task> {
        arguments::spread(&mut self);
        let task = Task::read(self.number, &mut self);
        let task = task.filter(|_| self.faults.count() == self.before)?;
        Some(Task { remarks: self.remarks, ..task })
    }

    fn place(&self, column: Column) -> Option<usize> {
        let value = self.values[column as usize].as_ref();
        value.and_then(|value| value.place).or(self.places[column as usize])
    }
}
