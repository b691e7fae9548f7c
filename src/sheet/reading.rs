//! A sheet while it is read: row after row, from whichever file.

use std::collections::HashMap;

use super::MAX_TASKS;
use super::cell::Cell;
use super::column::{BARE, COLUMNS, Column, Named};
use super::fault::{Faults, SheetError};
use super::head::{Head, head, unknown};
use super::results::{is_ours, without_mark};
use super::row::{Places, Row};
use super::task::Task;

/// What a sheet says.
#[derive(Debug)]
pub struct Sheet {
    /// The tasks, in the order of the rows, also those that are switched off. There is at least one.
    pub tasks: Vec<Task>,
    /// What whoever wrote it should know of how it was read, in sentences.
    pub remarks: Vec<String>,
}

/// Takes rows and makes tasks of them.
pub(super) struct Reading<'a> {
    /// The columns, by their places; not known before the first row.
    columns: Option<Vec<Option<Named>>>,
    places: Places,
    separator: Option<char>,
    /// Whether it is CSV that was made here, whose values may have marks before them.
    marked: bool,
    give: &'a mut dyn FnMut(Task),
    tasks: usize,
    /// The rows of tasks, by what they ask for.
    asked: HashMap<[u8; 16], u32>,
    /// And by their ids.
    ids: HashMap<String, u32>,
    remarks: Vec<String>,
    faults: Faults,
    first: u32,
    last: u32,
}

impl<'a> Reading<'a> {
    /// Gives each task to `give` as soon as it is read, also where it turns out later that the sheet is not accepted.
    pub(super) fn new(give: &'a mut dyn FnMut(Task)) -> Self {
        Self {
            give,
            tasks: 0,
            columns: None,
            places: [None; COLUMNS.len()],
            separator: None,
            marked: false,
            asked: HashMap::new(),
            ids: HashMap::new(),
            remarks: Vec::new(),
            faults: Faults::default(),
            first: 0,
            last: 0,
        }
    }

    /// Says what stands between the values of a row.
    pub(super) fn separated_by(&mut self, separator: char) {
        self.separator = Some(separator);
    }

    /// Adds a sentence for whoever wrote the sheet.
    pub(super) fn remark(&mut self, remark: String) {
        self.remarks.push(remark);
    }

    /// Adds what is wrong with a cell that could not even be read.
    pub(super) fn fault(&mut self, row: u32, column: Option<usize>, why: &str) {
        let named = column.and_then(|column| *self.columns.as_ref()?.get(column)?);
        let name = named.and_then(|named| match named {
            Named::Column(column) => Some(column.name()),
            Named::Result => None,
        });
        self.faults.add(row, column, name, why);
    }

    /// Takes a row by the places of its cells.
    ///
    /// # Errors
    ///
    /// When there is no reason to read on.
    pub(super) fn row(&mut self, number: u32, mut cells: Vec<Cell>) -> Result<(), SheetError> {
        let filled = cells.iter().rposition(|cell| !cell.is_empty()).map_or(0, |last| last + 1);
        cells.truncate(filled);
        if cells.is_empty() {
            return Ok(());
        }
        self.last = number;
        if self.columns.is_none() && self.head(number, &cells)? {
            self.marked = self.separator.is_some() && is_ours(&cells);
            return Ok(());
        }
        let columns = self.columns.as_ref().expect("the first row has told them");
        let nameless = |place: &usize| columns.get(*place).copied().flatten().is_none() && !cells[*place].is_empty();
        if let Some(place) = (0..cells.len()).find(nameless) {
            let why = match self.separator.filter(|_| place >= columns.len()) {
                Some('\t') => "has more values than there are columns".to_owned(),
                Some(c) => format!("has more values than there are columns: put a value with `{c}` in it in quotes"),
                None => "stands in a column without a name".to_owned(),
            };
            self.faults.add(number, Some(place), None, why);
            return Ok(());
        }
        let mut row = Row::new(number, self.places, &mut self.faults);
        for ((place, cell), named) in cells.into_iter().enumerate().zip(columns) {
            if let Some(Named::Column(column)) = named {
                // Passwords were put in by others.
                let has_mark = self.marked && *column != Column::Password;
                row.put(*column, Some(place), if has_mark { without_mark(cell) } else { cell });
            }
        }
        let task = row.finish();
        self.task(task)
    }

    /// Takes a row by the names of its values.
    ///
    /// # Errors
    ///
    /// When there is no reason to read on.
    pub(super) fn object(&mut self, number: u32, cells: Vec<(String, Cell)>) -> Result<(), SheetError> {
        self.last = number;
        let mut row = Row::new(number, self.places, &mut self.faults);
        for (name, cell) in cells {
            match Column::named(&name) {
                Some(Named::Column(column)) if row.has(column) => {
                    row.fault(column, "stands there twice");
                }
                Some(Named::Column(column)) => row.put(column, None, cell),
                Some(Named::Result) => {}
                None => row.complain(unknown(&name)),
            }
        }
        let task = row.finish();
        self.task(task)
    }

    /// What whoever wrote it should know, or what is wrong with it.
    ///
    /// # Errors
    ///
    /// Whatever is wrong with any cell; and when there is no task.
    pub(super) fn finish(self) -> Result<Vec<String>, SheetError> {
        if let Some(error) = self.faults.into_error() {
            return Err(error);
        }
        if self.tasks == 0 {
            return Err(SheetError::refused(
                "there is no task in it: `framehaul tasks template` shows what one looks like",
            ));
        }
        Ok(self.remarks)
    }

    /// Takes a range of cells that are one: the cell at its begin has the value of all, or of itself alone.
    pub(super) fn merged(&mut self, (row, column): (u32, usize), (last_row, last_column): (u32, usize), range: &str) {
        let width = self.columns.as_ref().map_or(0, Vec::len);
        if (row, column) == (last_row, last_column) || last_row < self.first || row > self.last || column >= width {
            return;
        }
        let why = format!("is one with others, {range}: split them, and write in each what belongs there");
        self.fault(row, Some(column), &why);
    }

    /// Reads the first row; whether there is nothing else in it.
    fn head(&mut self, number: u32, cells: &[Cell]) -> Result<bool, SheetError> {
        self.first = number;
        let (columns, is_read) = match head(cells) {
            Head::Names(columns) => (columns, true),
            Head::Task => (bare(), false),
            Head::Foreign => {
                self.remark(format!(
                    "row {number} is taken for names of columns: they are user, password, host and channels, by their places"
                ));
                (bare(), true)
            }
            Head::Wrong(wrong) => {
                for (place, why) in wrong {
                    self.faults.add(number, place, None, why);
                }
                // Without columns there is nothing to say of the rows.
                return Err(std::mem::take(&mut self.faults).into_error().expect("something is wrong"));
            }
            Head::Neither => {
                return Err(SheetError::refused(format!(
                    "row {number} has neither names of columns nor a user, a password, an address and channels: see \
                     `framehaul tasks template`"
                )));
            }
        };
        for (place, named) in columns.iter().enumerate() {
            if let Some(Named::Column(column)) = named {
                self.places[*column as usize] = Some(place);
            }
        }
        self.columns = Some(columns);
        Ok(is_read)
    }

    /// Adds a task that is right in itself.
    fn task(&mut self, task: Option<Task>) -> Result<(), SheetError> {
        let Some(task) = task else { return Ok(()) };
        if self.tasks == MAX_TASKS {
            return Err(SheetError::refused(format!("it has more than {MAX_TASKS} tasks: part it")));
        }
        if let Some(id) = &task.id
            && let Some(other) = self.ids.insert(id.clone(), task.row)
        {
            let place = self.places[Column::Id as usize];
            self.faults.add(task.row, place, Some(Column::Id.name()), format!("is also the one of row {other}"));
        }
        if task.enabled
            && let Some(other) = self.asked.insert(task.asks_for(), task.row)
        {
            self.faults.add(task.row, None, None, format!("asks for the same as row {other}"));
        }
        self.tasks += 1;
        (self.give)(task);
        Ok(())
    }
}

fn bare() -> Vec<Option<Named>> {
    BARE.map(|column| Some(Named::Column(column))).to_vec()
}
