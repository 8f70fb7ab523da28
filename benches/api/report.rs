//! Rows of figures, each over several runs, as a Markdown table.

/// One figure, measured several times.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figure(Vec<f64>);

impl Figure {
    pub(crate) fn add(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_by(f64::total_cmp);
    }

    pub(crate) fn median(&self) -> f64 {
        self.0[self.0.len() / 2]
    }

    /// `median (least to most)`, with so many digits after the point.
    pub(crate) fn shown(&self, digits: usize, unit: &str) -> String {
        let [least, most] = [self.0[0], self.0[self.0.len() - 1]];
        let text = |value| grouped(value, digits);
        format!("{} {unit} ({} to {})", text(self.median()), text(least), text(most))
    }
}

impl FromIterator<f64> for Figure {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut figure = Self::default();
        values.into_iter().for_each(|value| figure.add(value));
        figure
    }
}

/// The value below which `share` of all lie.
pub(crate) fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share).round() as usize]
}

/// `12,345.6`
fn grouped(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut out = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 && !out.ends_with('-') {
            out.push(',');
        }
        out.push(digit);
    }
    out + rest
}

/// The rows so far. Each is told when it is known, so that somebody who waits sees something.
#[derive(Default)]
pub(crate) struct Report(Vec<[String; 3]>);

impl Report {
    pub(crate) fn add(&mut self, what: &str, measured: String, note: &str) {
        eprintln!("{what}: {measured}; {note}");
        self.0.push([what.to_owned(), measured, note.to_owned()]);
    }

    pub(crate) fn print(&self) {
        println!("| what | median (least to most) | how |\n|---|---|---|");
        for [what, measured, note] in &self.0 {
            println!("| {what} | {measured} | {note} |");
        }
    }
}
