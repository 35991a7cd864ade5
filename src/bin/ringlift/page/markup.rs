//! HTML: text becomes markup here and nowhere else, and is escaped on the way. It must not know what a page is about.

/// Text as it may stand between tags and in attributes. Characters that control a terminal or turn the direction of
/// writing are replaced: they could make a page show something else than it contains.
pub(crate) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\n' | '\t' => safe.push(' '),
            char if char.is_control() || turns_direction(char) => safe.push(char::REPLACEMENT_CHARACTER),
            char => safe.push(char),
        }
    }
    safe
}

fn turns_direction(char: char) -> bool {
    matches!(char, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{61c}')
}

/// A sentence.
pub(crate) fn paragraph(text: &str) -> String {
    format!("<p>{}</p>\n", escaped(text))
}

/// A sentence about something that is not there.
pub(crate) fn missing(text: &str) -> String {
    format!("<p class=\"missing\">{}</p>\n", escaped(text))
}

/// A part of the page, with an id that is our own.
pub(crate) fn section(id: &str, heading: &str, body: &str) -> String {
    format!("<section id=\"{id}\">\n<h2>{}</h2>\n{body}</section>\n", escaped(heading))
}

/// What is shown when asked for.
pub(crate) fn details(summary: &str, body: &str) -> String {
    format!("<details><summary>{}</summary>\n{body}</details>\n", escaped(summary))
}

/// Parts next to each other where there is room, each with its heading; a single one has none.
pub(crate) fn columns(parts: Vec<(String, String)>) -> String {
    if let [(_, body)] = &*parts {
        return body.clone();
    }
    let columns = parts.into_iter().map(|(heading, body)| {
        format!("<div class=\"column\">\n<h3>{}</h3>\n{body}</div>\n", escaped(&heading))
    });
    format!("<div class=\"columns\">\n{}</div>\n", columns.collect::<String>())
}

/// Stands for a figure that a report does not have.
pub(crate) const ABSENT: &str = "–";

/// Columns of transfers that fit a sheet of paper without being squeezed.
const WIDE: usize = 5;

/// What a report has, or the sign that it does not.
pub(crate) fn or_absent(figure: Option<String>) -> String {
    figure.filter(|text| !text.is_empty()).unwrap_or_else(|| ABSENT.to_owned())
}

/// A table. The first cell of a row is its heading; the first columns are text, the others are figures.
pub(crate) struct Table {
    caption: String,
    words: usize,
    of_transfers: bool,
    head: Vec<String>,
    rows: Vec<(Vec<String>, bool)>,
}

impl Table {
    pub(crate) fn new<S: Into<String>>(caption: &str, head: impl IntoIterator<Item = S>) -> Table {
        let head = head.into_iter().map(Into::into).collect();
        Table { caption: caption.to_owned(), words: 1, of_transfers: false, head, rows: Vec::new() }
    }

    /// Sets how many columns are text.
    pub(crate) fn words(self, words: usize) -> Table {
        Table { words, ..self }
    }

    /// Has a column for each transfer or side: there may be many, with long names.
    pub(crate) fn of_transfers(self) -> Table {
        Table { of_transfers: true, ..self }
    }

    pub(crate) fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push((cells.into_iter().map(Into::into).collect(), false));
    }

    /// A row whose cells, apart from the first, ought to be the same where there is one: it is marked if they are not.
    pub(crate) fn row_of_same(&mut self, cells: Vec<String>) {
        let mut known = cells.iter().skip(1).filter(|cell| *cell != ABSENT);
        let first = known.next();
        let differs = known.any(|cell| Some(cell) != first);
        self.rows.push((cells, differs));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn html(&self) -> String {
        let caption = escaped(&self.caption);
        // on paper its columns have to share the width
        let wide = if self.of_transfers && self.head.len() > WIDE { " class=\"wide\"" } else { "" };
        let mut html = format!(
            "<div class=\"scroll\" role=\"region\" aria-label=\"{caption}\" tabindex=\"0\"><table{wide}>\n\
             <caption>{caption}</caption>\n<thead><tr>"
        );
        for (column, cell) in self.head.iter().enumerate() {
            html += &format!("<th scope=\"col\"{}>{}</th>", self.class(column), escaped(cell));
        }
        html += "</tr></thead>\n<tbody>\n";
        for (cells, differs) in &self.rows {
            html += if *differs { "<tr class=\"differs\">" } else { "<tr>" };
            for (column, cell) in cells.iter().enumerate() {
                let (cell, class) = (escaped(cell), self.class(column));
                html += &match (column, differs) {
                    (0, true) => format!(
                        "<th scope=\"row\">{cell} <span class=\"mark\" role=\"img\" aria-label=\"differs\">≠</span></th>"
                    ),
                    (0, false) => format!("<th scope=\"row\">{cell}</th>"),
                    _ => format!("<td{class}>{cell}</td>"),
                };
            }
            html += "</tr>\n";
        }
        html + "</tbody></table></div>\n"
    }

    fn class(&self, column: usize) -> &'static str {
        if column < self.words { "" } else { " class=\"figure\"" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(
            escaped("<script>alert('a & \"b\"')</script>"),
            "&lt;script&gt;alert(&#39;a &amp; &quot;b&quot;&#39;)&lt;/script&gt;"
        );
        assert_eq!(escaped("net0 µ 漢"), "net0 µ 漢");
    }

    #[test]
    fn what_would_show_something_else_is_replaced() {
        assert_eq!(escaped("a\u{1b}[2Jb\u{202e}c\nd"), "a\u{fffd}[2Jb\u{fffd}c d");
    }

    #[test]
    fn a_table_marks_the_rows_that_differ() {
        let mut table = Table::new("settings", ["", "a", "b"]);
        table.row_of_same(vec!["channels".to_owned(), "2".to_owned(), "4".to_owned()]);
        table.row_of_same(vec!["pool".to_owned(), "64".to_owned(), "64".to_owned()]);
        let html = table.html();
        assert_eq!(html.matches("class=\"differs\"").count(), 1);
        assert!(html.contains("<th scope=\"row\">channels <span class=\"mark\""), "{html}");
        assert!(html.contains("<td class=\"figure\">64</td>"), "{html}");
    }

    #[test]
    fn cells_captions_and_headings_are_escaped() {
        let mut table = Table::new("<b>", ["<i>"]);
        table.row(["<u>"]);
        let html = table.html() + &section("a", "<s>", "") + &details("<q>", "") + &paragraph("<p>");
        for tag in ["<b>", "<i>", "<u>", "<s>", "<q>", "<p><p>"] {
            assert!(!html.contains(tag), "{tag}");
        }
    }

    #[test]
    fn a_single_column_needs_no_heading() {
        assert_eq!(columns(vec![("a".to_owned(), "b".to_owned())]), "b");
        let two = vec![("a".to_owned(), "b".to_owned()), ("<c>".to_owned(), "d".to_owned())];
        assert!(columns(two).contains("<h3>&lt;c&gt;</h3>"));
    }
}
