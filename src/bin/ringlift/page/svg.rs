//! Plots as plain SVG. It must not know what a plot shows.
//!
//! A plot is as wide as its column and has a fixed height: across, everything is placed in percent, so that text keeps
//! its size on a telephone. Curves are drawn in an inner picture that is stretched. Labels of a vertical axis stand in a
//! gutter beside the plot, which is padding of the picture: places across are inside it.

use super::markup::escaped;

/// Above the topmost grid line.
pub(crate) const TOP: f64 = 18.0;
/// Below the plot: labels of the horizontal axis.
pub(crate) const BOTTOM: f64 = 22.0;

/// A stretched picture's own coordinates.
const STRETCHED: f64 = 1000.0;

/// How many fills and strokes can be told apart: `k0` and on, `s0` and on.
pub(crate) const STROKES: usize = 8;

/// A picture that is being drawn. Places across are shares of its width, from 0 to 1; places down are pixels.
pub(crate) struct Svg {
    id: String,
    title: String,
    description: String,
    height: f64,
    has_gutter: bool,
    body: String,
}

impl Svg {
    /// `id` is our own and unique on the page. A reader who does not see the picture hears title and description.
    pub(crate) fn new(id: &str, title: &str, description: &str, height: f64) -> Svg {
        let [title, description] = [title, description].map(str::to_owned);
        Svg { id: id.to_owned(), title, description, height, has_gutter: false, body: String::new() }
    }

    /// Leaves room beside the plot for the labels of its levels.
    pub(crate) fn with_gutter(self) -> Svg {
        Svg { has_gutter: true, ..self }
    }

    /// A bar with a fill of its own, and a text that appears when it is pointed at.
    pub(crate) fn bar(&mut self, from: f64, to: f64, y: f64, height: f64, class: &str, tip: &str) {
        let (from, to) = (from.clamp(0.0, 1.0), to.clamp(0.0, 1.0));
        let (from, width) = (percent(from), percent((to - from).max(0.0)));
        self.body += &format!(
            "<rect x=\"{from}\" y=\"{y:.1}\" width=\"{width}\" height=\"{height:.1}\" class=\"{class}\"><title>{}</title></rect>\n",
            escaped(tip)
        );
    }

    pub(crate) fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        let (x1, x2) = (percent(from.0), percent(to.0));
        self.body += &format!(
            "<line x1=\"{x1}\" y1=\"{:.1}\" x2=\"{x2}\" y2=\"{:.1}\" class=\"{class}\"/>\n",
            from.1, to.1
        );
    }

    /// A mark of a single point.
    pub(crate) fn dot(&mut self, x: f64, y: f64, class: &str) {
        self.body += &format!("<circle cx=\"{}\" cy=\"{y:.1}\" r=\"3\" class=\"{class}\"/>\n", percent(x));
    }

    /// Text that begins at a place.
    pub(crate) fn label(&mut self, x: f64, y: f64, text: &str) {
        self.text(x, y, "start", text);
    }

    /// Text around a place, or beside it where the picture ends.
    pub(crate) fn tick(&mut self, x: f64, y: f64, text: &str) {
        let anchor = match x {
            x if x < 0.08 => "start",
            x if x > 0.92 => "end",
            _ => "middle",
        };
        self.text(x, y, anchor, text);
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, text: &str) {
        self.body += &format!(
            "<text x=\"{}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>\n",
            percent(x),
            escaped(text)
        );
    }

    /// A grid line across, with what it stands for.
    pub(crate) fn level(&mut self, y: f64, text: &str) {
        self.line((0.0, y), (1.0, y), "grid");
        if self.has_gutter {
            self.body += &format!(
                "<text x=\"-6\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
                y + 4.0,
                escaped(text)
            );
        } else {
            self.label(0.0, y - 3.0, text);
        }
    }

    /// A curve within a part of the picture's height; points run from 0 to 1 from left to right and upwards.
    pub(crate) fn curve(&mut self, y: f64, height: f64, points: &[(f64, f64)], class: &str) {
        let path: Vec<String> = points.iter().map(|point| stretched(*point)).collect();
        if !path.is_empty() {
            self.stretch(y, height, &format!("M{}", path.join("L")), class);
        }
    }

    /// The same, with the area below it.
    pub(crate) fn area(&mut self, y: f64, height: f64, points: &[(f64, f64)], class: &str) {
        let (Some(first), Some(last)) = (points.first(), points.last()) else { return };
        let path: Vec<String> = points.iter().map(|point| stretched(*point)).collect();
        let (begin, end) = (stretched((first.0, 0.0)), stretched((last.0, 0.0)));
        self.stretch(y, height, &format!("M{begin}L{}L{end}Z", path.join("L")), class);
    }

    fn stretch(&mut self, y: f64, height: f64, path: &str, class: &str) {
        self.body += &format!(
            "<svg x=\"0\" y=\"{y:.1}\" width=\"100%\" height=\"{height:.1}\" viewBox=\"0 0 {STRETCHED} {STRETCHED}\" \
             preserveAspectRatio=\"none\"><path d=\"{path}\" class=\"{class}\"/></svg>\n"
        );
    }

    pub(crate) fn html(&self) -> String {
        let Svg { id, height, body, .. } = self;
        let class = if self.has_gutter { "plot gutter" } else { "plot" };
        let (title, description) = (escaped(&self.title), escaped(&self.description));
        format!(
            "<svg class=\"{class}\" id=\"{id}\" width=\"100%\" height=\"{height:.0}\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\">\n\
             <title id=\"{id}-t\">{title}</title>\n<desc id=\"{id}-d\">{description}</desc>\n{body}</svg>\n"
        )
    }
}

/// A name as it fits a telephone: the middle of a long one is left out, because names differ at their ends. A character
/// that is not ASCII counts for two.
pub(crate) fn shortened(name: &str) -> String {
    const ROOM: usize = 40;
    let width = |char: &char| if char.is_ascii() { 1 } else { 2 };
    let chars: Vec<char> = name.chars().collect();
    if chars.iter().map(width).sum::<usize>() <= ROOM {
        return name.to_owned();
    }
    let fitting = |chars: &mut dyn Iterator<Item = char>| {
        let mut room = ROOM / 2;
        let fits = |char: &char| {
            let left = room.checked_sub(width(char));
            room = left.unwrap_or(0);
            left.is_some()
        };
        chars.take_while(fits).collect::<Vec<char>>()
    };
    let (begin, end) = (fitting(&mut chars.iter().copied()), fitting(&mut chars.iter().rev().copied()));
    begin.into_iter().chain(['…']).chain(end.into_iter().rev()).collect()
}

fn percent(share: f64) -> String {
    format!("{:.3}%", share.clamp(0.0, 1.0) * 100.0)
}

fn stretched((x, y): (f64, f64)) -> String {
    format!("{:.1} {:.1}", x.clamp(0.0, 1.0) * STRETCHED, (1.0 - y.clamp(0.0, 1.0)) * STRETCHED)
}

/// Steps through values that hold for a stretch each: (from, to, value).
pub(crate) fn steps(stretches: impl IntoIterator<Item = (f64, f64, f64)>) -> Vec<(f64, f64)> {
    stretches.into_iter().flat_map(|(from, to, value)| [(from, value), (to, value)]).collect()
}

/// What the fills or strokes of a plot stand for: classes and their names.
pub(crate) fn legend(entries: &[(String, String)]) -> String {
    let mut html = "<ul class=\"legend\">\n".to_owned();
    for (class, name) in entries {
        let key = match class.starts_with('k') {
            true => format!("<rect x=\"1\" y=\"1\" width=\"22\" height=\"10\" class=\"{class}\"/>"),
            false => format!("<line x1=\"0\" y1=\"6\" x2=\"24\" y2=\"6\" class=\"{class}\"/>"),
        };
        html += &format!(
            "<li><svg width=\"24\" height=\"12\" aria-hidden=\"true\">{key}</svg>{}</li>\n",
            escaped(name)
        );
    }
    html + "</ul>\n"
}

/// A plot, what its colours stand for, and its figures as a table.
pub(crate) fn figure(heading: &str, legend: &str, svg: &Svg, table: &str) -> String {
    let table = super::markup::details("The figures as a table", table);
    let caption = format!("<figcaption>{}</figcaption>\n", escaped(heading));
    format!("<figure>\n{caption}{legend}{}{table}</figure>\n", svg.html())
}

/// The patterns of the fills: they differ in shape as well as in colour, for readers who do not tell colours apart and
/// for paper.
pub(crate) fn patterns() -> String {
    const SHAPES: [&str; 10] = [
        "",
        "M-2 2L2 -2M0 8L8 0M6 10L10 6",
        "M0 4H8",
        "M4 0V8",
        "M-2 6L2 10M0 0L8 8M6 -2L10 2",
        "M0 4H8M4 0V8",
        "M1 1h2v2h-2zM5 5h2v2h-2z",
        "M0 0L8 8M0 8L8 0",
        "M0 2H8M0 6H8",
        "M2 0V8M6 0V8",
    ];
    let mut html =
        "<svg width=\"0\" height=\"0\" aria-hidden=\"true\" class=\"patterns\"><defs>\n".to_owned();
    for (number, shape) in SHAPES.iter().enumerate() {
        html += &format!(
            "<pattern id=\"p{number}\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\">\
             <rect width=\"8\" height=\"8\" class=\"b{number}\"/><path d=\"{shape}\" class=\"hatch\"/></pattern>\n"
        );
    }
    html + "</defs></svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_has_a_title_and_a_description_for_those_who_do_not_see_it() {
        let html = Svg::new("rate", "throughput <b>", "it \"rose\"", 100.0).html();
        assert!(html.contains("role=\"img\" aria-labelledby=\"rate-t rate-d\""), "{html}");
        assert!(html.contains("<title id=\"rate-t\">throughput &lt;b&gt;</title>"), "{html}");
        assert!(html.contains("<desc id=\"rate-d\">it &quot;rose&quot;</desc>"), "{html}");
    }

    #[test]
    fn nothing_is_drawn_outside_the_picture() {
        let mut svg = Svg::new("a", "", "", 100.0);
        svg.bar(-1.0, 7.0, 0.0, 10.0, "k0", "<tip>");
        svg.curve(0.0, 100.0, &[(-3.0, 2.0), (0.5, 0.25)], "s0");
        let html = svg.html();
        assert!(html.contains("x=\"0.000%\"") && html.contains("width=\"100.000%\""), "{html}");
        assert!(html.contains("M0.0 0.0L500.0 750.0"), "{html}");
        assert!(!html.contains("<tip>"), "{html}");
    }

    #[test]
    fn a_label_at_the_edge_stays_inside() {
        let mut svg = Svg::new("a", "", "", 100.0);
        [0.0, 0.5, 1.0].into_iter().for_each(|x| svg.tick(x, 90.0, "t"));
        for anchor in ["start", "middle", "end"] {
            assert_eq!(svg.html().matches(&format!("text-anchor=\"{anchor}\"")).count(), 1);
        }
    }

    #[test]
    fn long_names_lose_their_middle() {
        assert_eq!(shortened("net0"), "net0");
        assert_eq!(shortened(&"n".repeat(40)), "n".repeat(40));
        let name = format!("{}{}", "a".repeat(30), "b".repeat(30));
        assert_eq!(shortened(&name), format!("{}…{}", "a".repeat(20), "b".repeat(20)));
        assert_eq!(shortened(&"漢".repeat(255)), format!("{0}…{0}", "漢".repeat(10)));
    }

    #[test]
    fn steps_hold_their_value_to_the_next() {
        assert_eq!(
            steps([(0.0, 0.5, 1.0), (0.5, 1.0, 0.2)]),
            [(0.0, 1.0), (0.5, 1.0), (0.5, 0.2), (1.0, 0.2)]
        );
    }
}
