//! What is wrong with a sheet.

use std::fmt;

use super::cell::letters;

/// Faults that are told, at most; the others are counted.
const MOST_TOLD: usize = 1_000;

/// Something wrong in one cell, one column or one row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CellFault {
    /// The row, from 1 on, as programs for sheets count it; of JSON, the number of the object.
    pub row: u32,
    /// The column's letters; of JSON, and for a column that is not there, none.
    pub column: Option<String>,
    /// The column's name in ours, where it is known.
    pub name: Option<String>,
    /// What is wrong, and the way out.
    pub detail: String,
}

/// `row 17, column F (`start`): is no date`
impl fmt::Display for CellFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "row {}", self.row)?;
        if let Some(column) = &self.column {
            write!(f, ", column {column}")?;
        }
        if let Some(name) = &self.name {
            write!(f, " (`{name}`)")?;
        }
        write!(f, ": {}", self.detail)
    }
}

/// Why a sheet is not accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SheetError {
    /// It cannot be read at all.
    Refused(String),
    /// It can be read, and some of its cells are wrong.
    Cells {
        /// What is wrong with which, in the order of the rows.
        faults: Vec<CellFault>,
        /// Faults beyond those, which are only counted.
        more: usize,
    },
}

impl SheetError {
    pub(super) fn refused(why: impl Into<String>) -> Self {
        Self::Refused(why.into())
    }
}

/// One line for each fault.
impl fmt::Display for SheetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => f.write_str(why),
            Self::Cells { faults, more } => {
                for (n, fault) in faults.iter().enumerate() {
                    write!(f, "{}{fault}", if n == 0 { "" } else { "\n" })?;
                }
                if *more > 0 {
                    write!(f, "\nand {more} more")?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for SheetError {}

/// Collects faults.
#[derive(Debug, Default)]
pub(super) struct Faults {
    told: Vec<CellFault>,
    more: usize,
}

impl Faults {
    /// Adds one.
    pub(super) fn add(&mut self, row: u32, column: Option<usize>, name: Option<&str>, detail: impl Into<String>) {
        if self.told.len() == MOST_TOLD {
            self.more += 1;
            return;
        }
        self.told.push(CellFault {
            row,
            column: column.map(letters),
            name: name.map(str::to_owned),
            detail: detail.into(),
        });
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.told.len() + self.more
    }

    /// All as an error; none where there is none.
    pub(super) fn into_error(mut self) -> Option<SheetError> {
        // Merged cells are told behind the rows in a workbook.
        self.told.sort_by_key(|fault| fault.row);
        (!self.told.is_empty()).then_some(SheetError::Cells { faults: self.told, more: self.more })
    }
}
