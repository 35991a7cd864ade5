//! Rows of cells in plain text: aligned, and as readable in a log as on a terminal. It knows nothing of what is in them.

/// Rows of cells: the first columns are text, aligned left; the others are figures, aligned right.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    words: usize,
}

impl Table {
    pub(crate) fn new(header: &[&str]) -> Table {
        Table { rows: vec![header.iter().map(|cell| (*cell).to_owned()).collect()], words: 1 }
    }

    /// Sets how many columns are text.
    pub(crate) fn words(self, words: usize) -> Table {
        Table { words, ..self }
    }

    pub(crate) fn row(&mut self, cells: impl Into<Vec<String>>) {
        self.rows.push(cells.into());
    }

    fn width(&self, column: usize) -> usize {
        self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let width = self.width(column);
                let gap = if column == 0 { "" } else { "   " };
                line += &match column < self.words {
                    true => format!("{gap}{cell:<width$}"),
                    false => format!("{gap}{cell:>width$}"),
                };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_tail() {
        let mut table = Table::new(&["name", "bytes", ""]);
        table.row(["a".to_owned(), "1".to_owned(), String::new()]);
        table.row(["µ long one".to_owned(), "12345678".to_owned(), String::new()]);
        assert_eq!(
            table.to_string(),
            "name            bytes\n\
             a                   1\n\
             µ long one   12345678\n"
        );
    }
}
