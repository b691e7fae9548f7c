//! What the first row of a sheet says: which column is which.

use super::cell::Cell;
use super::column::{BARE, Column, Named};

/// What the first row is.
#[derive(PartialEq, Debug)]
pub(super) enum Head {
    /// Names of columns; `None` where nothing stands.
    Names(Vec<Option<Named>>),
    /// Names in some language of what stands in [`BARE`].
    Foreign,
    /// No names: a task of what stands in [`BARE`].
    Task,
    /// Names, and something is wrong with these columns; with the whole row where no column is told.
    Wrong(Vec<(Option<usize>, String)>),
    /// Neither.
    Neither,
}

/// Reads the first row that is not empty. It has no empty cells at its end.
pub(super) fn head(cells: &[Cell]) -> Head {
    let named: Vec<Option<Named>> = cells
        .iter()
        .map(|cell| match cell {
            Cell::Text(text) => Column::named(text),
            _ => None,
        })
        .collect();
    let filled = cells.iter().filter(|cell| !cell.is_empty()).count();
    let known = named.iter().flatten().count();
    if known == filled {
        return names(&named);
    }
    if is_task(cells) {
        return Head::Task;
    }
    let in_place =
        |(place, named): (usize, &Option<Named>)| named.is_none_or(|named| named == Named::Column(BARE[place]));
    if cells.len() == BARE.len() && filled == BARE.len() && named.iter().enumerate().all(in_place) {
        return Head::Foreign;
    }
    // Where most are not known, the row may be a task, and what is in it must not be repeated.
    if known * 2 < filled {
        return Head::Neither;
    }
    let unknown = cells.iter().zip(&named).enumerate().filter_map(|(place, (cell, named))| {
        let Cell::Text(text) = cell else {
            return (!cell.is_empty()).then(|| (Some(place), "is no name of a column".to_owned()));
        };
        named.is_none().then(|| (Some(place), unknown(text)))
    });
    Head::Wrong(unknown.collect())
}

/// What is said of a name that means nothing. Where a line break is missing it is no name but a value: what does not look
/// like a name is not repeated.
pub(super) fn unknown(name: &str) -> String {
    let is_name = name.chars().all(|c| c.is_alphabetic() || matches!(c, ' ' | '_')) && name.chars().count() <= 40;
    let shown = if is_name { format!("`{name}`") } else { "what stands here".to_owned() };
    format!("{shown} is not known: `framehaul tasks template` has all names")
}

/// Whether these are a user, a password, a recorder and channels rather than names for them.
fn is_task(cells: &[Cell]) -> bool {
    let [user, _, host, channels] = cells else { return false };
    let address = |text: &str| text.contains(['.', ':']) && !text.contains(char::is_whitespace);
    let numbers = |text: &str| text.contains(|c: char| c.is_ascii_digit()) || text.eq_ignore_ascii_case("all");
    let is = |cell: &Cell, looks: &dyn Fn(&str) -> bool| match cell {
        Cell::Text(text) => looks(text),
        Cell::Empty => false,
        _ => true,
    };
    !user.is_empty() && (is(host, &address) || is(channels, &numbers))
}

fn names(named: &[Option<Named>]) -> Head {
    let mut wrong = Vec::new();
    for (place, name) in named.iter().enumerate() {
        if let Some(Named::Column(column)) = name
            && named[..place].contains(name)
        {
            wrong.push((Some(place), format!("stands there twice: another column is `{}` too", column.name())));
        }
    }
    let has = |column| named.contains(&Some(Named::Column(column)));
    // A command line may say all three.
    if !has(Column::Args) {
        for (there, name) in [
            (has(Column::Host), "host"),
            (has(Column::User), "user"),
            (has(Column::Password) || has(Column::PasswordFile), "password"),
        ] {
            if !there {
                wrong.push((None, format!("there is no column `{name}`")));
            }
        }
    }
    if wrong.is_empty() { Head::Names(named.to_vec()) } else { Head::Wrong(wrong) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(row: &str) -> Head {
        head(&row.split(',').map(Cell::text).collect::<Vec<_>>())
    }

    #[test]
    fn names_are_told_from_tasks() {
        let named = |row: &str| match of(row) {
            Head::Names(columns) => columns.len(),
            other => panic!("{row}: {other:?}"),
        };
        assert_eq!(named("user,password,address,channels"), 4);
        assert_eq!(named("channels,host,status,password,login"), 5);
        assert_eq!(named("пользователь,пароль,адрес,канал"), 4);
        assert_eq!(named("用户名,密码,地址,通道"), 4);
        for foreign in ["Utilisateur,Mot de passe,Adresse,Canal", "utente,password,indirizzo,canale", "a,b,c,d"] {
            assert_eq!(of(foreign), Head::Foreign, "{foreign}");
        }
        for task in [
            "admin,12345,10.0.0.5,101",
            "user,password,10.0.0.5,abc",
            "user,,nvr,1-16",
            "user,password,host,all",
            "админ,пароль,nvr.example,all",
        ] {
            assert_eq!(of(task), Head::Task, "{task}");
        }
    }

    #[test]
    fn what_may_be_a_password_is_not_repeated() {
        for neither in ["admin,canary,10.0.0.5,101,canary", "canary", "Tasks of Monday", "a,b,c", "user,canary,canary"]
        {
            assert_eq!(of(neither), Head::Neither, "{neither}");
        }
        let wrong = |row: &str| match of(row) {
            Head::Wrong(wrong) => wrong,
            other => panic!("{row}: {other:?}"),
        };
        assert_eq!(wrong("user,password,host,channels,strat")[0].0, Some(4));
        assert!(wrong("user,password,host,channels,strat")[0].1.starts_with("`strat` is not known"));
        assert_eq!(wrong("user,password,host,login")[0].0, Some(3));
        assert_eq!(
            wrong("channels,start"),
            ["host", "user", "password"].map(|name| (None, format!("there is no column `{name}`")))
        );
    }
}
