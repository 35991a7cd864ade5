//! A strict reader of the text that Prometheus reads (version 0.0.4): whatever a reader might stumble over is an error. Written from the
//! format's description, and knows nothing of the program that writes it.

use std::collections::{BTreeMap, BTreeSet};

/// One sample.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    /// With `_bucket` and so on.
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// Everything that a text says.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    /// The kind of each metric.
    pub(crate) kinds: BTreeMap<String, String>,
    pub(crate) samples: Vec<Sample>,
}

impl Exposition {
    /// Reads a text; an error names the line.
    pub(crate) fn parse(text: &str) -> Result<Exposition, String> {
        if !text.ends_with('\n') {
            return Err("the last line does not end".to_owned());
        }
        let mut parser = Parser::default();
        for (number, line) in text.split_terminator('\n').enumerate() {
            parser.line(line).map_err(|error| format!("line {}: {error}: {line}", number + 1))?;
        }
        let found = Exposition { kinds: parser.kinds, samples: parser.samples };
        found.check_histograms()?;
        Ok(found)
    }

    /// The value of the only sample of a name that has these labels.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |sample: &&Sample| {
            sample.name == name
                && labels
                    .iter()
                    .all(|(label, value)| sample.labels.get(*label).is_some_and(|found| found == value))
        };
        let mut found = self.samples.iter().filter(has);
        let value = found.next()?.value;
        assert!(found.next().is_none(), "{name} {labels:?} is more than one sample");
        Some(value)
    }

    /// The sum over all samples of a name that have these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |sample: &&Sample| {
            sample.name == name
                && labels
                    .iter()
                    .all(|(label, value)| sample.labels.get(*label).is_some_and(|found| found == value))
        };
        self.samples.iter().filter(has).map(|sample| sample.value).sum()
    }

    /// Whether every counter of `earlier` is still there and no less.
    pub(crate) fn is_later_than(&self, earlier: &Exposition) -> Result<(), String> {
        for sample in &earlier.samples {
            let kind =
                earlier.kinds.iter().find(|(name, _)| sample.is_of(name)).map(|(_, kind)| kind.as_str());
            if kind == Some("gauge") {
                continue;
            }
            let now =
                self.samples.iter().find(|now| (&now.name, &now.labels) == (&sample.name, &sample.labels));
            match now {
                Some(now) if now.value >= sample.value => {}
                now => return Err(format!("{sample:?} became {now:?}")),
            }
        }
        Ok(())
    }

    fn check_histograms(&self) -> Result<(), String> {
        for name in self.kinds.iter().filter(|(_, kind)| *kind == "histogram").map(|(name, _)| name) {
            let mut series: BTreeMap<BTreeMap<String, String>, Vec<(f64, f64)>> = BTreeMap::new();
            for sample in self.samples.iter().filter(|sample| sample.name == format!("{name}_bucket")) {
                let mut labels = sample.labels.clone();
                let bound = labels.remove("le").ok_or_else(|| format!("{name}: a bucket without le"))?;
                let bound = number(&bound).ok_or_else(|| format!("{name}: le is {bound}"))?;
                series.entry(labels).or_default().push((bound, sample.value));
            }
            for (labels, buckets) in series {
                let rises = buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
                let of = |end: &str| {
                    let name = format!("{name}_{end}");
                    let found =
                        self.samples.iter().find(|sample| sample.name == name && sample.labels == labels);
                    found.map(|sample| sample.value).ok_or_else(|| format!("{name} {labels:?} is missing"))
                };
                let (sum, count) = (of("sum")?, of("count")?);
                let last = *buckets.last().expect("a series has a bucket");
                if !rises || last != (f64::INFINITY, count) || sum < 0.0 {
                    return Err(format!("{name} {labels:?}: {buckets:?}, count {count}, sum {sum}"));
                }
            }
        }
        Ok(())
    }
}

impl Sample {
    /// Whether it belongs to a metric, which may be a histogram.
    fn is_of(&self, metric: &str) -> bool {
        self.name.strip_prefix(metric).is_some_and(|end| matches!(end, "" | "_bucket" | "_sum" | "_count"))
    }
}

#[derive(Default)]
struct Parser {
    helped: BTreeSet<String>,
    kinds: BTreeMap<String, String>,
    /// The metric that the lines are of now.
    current: String,
    samples: Vec<Sample>,
    seen: BTreeSet<(String, BTreeMap<String, String>)>,
}

impl Parser {
    fn line(&mut self, line: &str) -> Result<(), String> {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').ok_or("no help")?;
            if !is_name(name) || help.is_empty() || !self.helped.insert(name.to_owned()) {
                return Err("a metric has one name and one help".to_owned());
            }
            self.current = name.to_owned();
            return Ok(());
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or("no kind")?;
            let is_kind = matches!(kind, "counter" | "gauge" | "histogram");
            if name != self.current
                || !is_kind
                || self.kinds.insert(name.to_owned(), kind.to_owned()).is_some()
            {
                return Err("a metric has one kind, right behind its help".to_owned());
            }
            return Ok(());
        }
        if line.starts_with('#') || line.is_empty() {
            return Err("neither a sample nor HELP nor TYPE".to_owned());
        }
        let sample = sample(line)?;
        let kind = self.kinds.get(&self.current).ok_or("a sample before its kind")?;
        let is_of = sample.is_of(&self.current) && (sample.name == self.current) == (kind != "histogram");
        if !is_of {
            return Err(format!("it is not of {}, a {kind}", self.current));
        }
        if kind != "gauge" && (sample.value < 0.0 || sample.value.is_nan()) {
            return Err("a counter that is negative".to_owned());
        }
        if !self.seen.insert((sample.name.clone(), sample.labels.clone())) {
            return Err("it is there twice".to_owned());
        }
        self.samples.push(sample);
        Ok(())
    }
}

fn sample(line: &str) -> Result<Sample, String> {
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, behind) = rest.split_once("=\"").ok_or("a label without a value")?;
            let (value, behind) = quoted(behind)?;
            if !is_label(label) || labels.insert(label.to_owned(), value).is_some() {
                return Err(format!("the label {label:?}"));
            }
            if let Some(behind) = behind.strip_prefix('}') {
                rest = behind;
                break;
            }
            rest = behind.strip_prefix(',').ok_or("no comma between labels")?;
        }
    }
    let value = rest.strip_prefix(' ').and_then(number).ok_or("the value")?;
    if !is_name(name) {
        return Err("the name".to_owned());
    }
    Ok(Sample { name: name.to_owned(), labels, value })
}

/// A label's value up to its quotation mark, and what is behind that.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => value.push(match chars.next() {
                Some((_, 'n')) => '\n',
                Some((_, char @ ('\\' | '"'))) => char,
                other => return Err(format!("\\ before {other:?}")),
            }),
            other => value.push(other),
        }
    }
    Err("a value does not end".to_owned())
}

/// As Go parses it, and without what only Rust takes.
fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        _ if text.chars().all(|char| char.is_ascii_digit() || matches!(char, '.' | '-' | 'e' | '+')) => {
            text.parse().ok()
        }
        _ => None,
    }
}

fn is_name(name: &str) -> bool {
    let is_inner = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | ':');
    name.chars().all(is_inner) && name.starts_with(|char: char| !char.is_ascii_digit())
}

fn is_label(name: &str) -> bool {
    is_name(name) && !name.contains(':') && !name.starts_with("__")
}
