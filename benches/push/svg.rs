//! Plots as SVG: lines with their spread, or groups of bars. As much as the benchmark's page needs, and no more.

use std::fmt::Write as _;

/// Pixels of a plot.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
/// Where its axes are: left, right, top, bottom.
const LEFT: f64 = 70.0;
const RIGHT: f64 = WIDTH - 210.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = HEIGHT - 56.0;
/// Colours that are told apart by most (Okabe and Ito), and then again with dashes.
const COLOURS: [&str; 8] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#8a8a00"];

/// A plot.
#[derive(Debug, Clone)]
pub struct Plot {
    /// One word, for its file.
    pub name: String,
    /// What stands above it.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// What is shown.
    pub series: Vec<Series>,
}

/// An axis.
#[derive(Debug, Clone)]
pub struct Axis {
    /// What it shows, with the unit.
    pub label: String,
    /// Whether equal steps are equal factors; figures must be above 0 then.
    pub log: bool,
    /// Names in place of figures: x = 0, 1, 2 ... stand for them, and bars are drawn in place of lines.
    pub names: Vec<String>,
}

impl Axis {
    /// Equal steps are equal differences, from 0.
    pub fn linear(label: impl Into<String>) -> Self {
        Self { label: label.into(), log: false, names: Vec::new() }
    }

    /// Equal steps are equal factors.
    pub fn log(label: impl Into<String>) -> Self {
        Self { label: label.into(), log: true, names: Vec::new() }
    }

    /// Groups of bars, with these names.
    pub fn groups(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { label: String::new(), log: false, names: names.into_iter().map(Into::into).collect() }
    }
}

/// Points that belong together.
#[derive(Debug, Clone)]
pub struct Series {
    /// Whose they are.
    pub name: String,
    /// The points.
    pub points: Vec<Point>,
}

/// A figure, and between which it was seen.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    /// Where.
    pub x: f64,
    /// How much: the median.
    pub y: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

impl Plot {
    /// The file's text.
    pub fn svg(&self) -> String {
        let bars = !self.x.names.is_empty();
        let all = || self.series.iter().flat_map(|series| &series.points);
        let x = match bars {
            true => Scale::new(false, [-0.5, self.x.names.len() as f64 - 0.5], (LEFT, RIGHT)),
            false => Scale::over(self.x.log, all().map(|point| point.x), (LEFT, RIGHT)),
        };
        let y = Scale::over(self.y.log, all().flat_map(|point| [point.min, point.max]), (BOTTOM, TOP));
        let mut out = Svg::begin();
        out.text(WIDTH / 2.0, 22.0, "middle", 15, &self.title);
        self.axes(&mut out, &x, &y, all().map(|point| point.x));
        for (nth, series) in self.series.iter().enumerate() {
            let (colour, dashed) = (COLOURS[nth % COLOURS.len()], nth >= COLOURS.len());
            match bars {
                true => self.bars(&mut out, nth, series, colour, (&x, &y)),
                false => lines(&mut out, series, colour, dashed, (&x, &y)),
            }
            let at = TOP + 10.0 + 19.0 * nth as f64;
            out.line((RIGHT + 14.0, at), (RIGHT + 34.0, at), colour, if bars { 9.0 } else { 2.5 }, dashed);
            out.text(RIGHT + 40.0, at + 4.0, "start", 12, &series.name);
        }
        out.end()
    }

    fn axes(&self, out: &mut Svg, x: &Scale, y: &Scale, at: impl Iterator<Item = f64>) {
        for tick in y.ticks() {
            let to = y.place(tick);
            out.line((LEFT, to), (RIGHT, to), "#dddddd", 1.0, false);
            out.text(LEFT - 8.0, to + 4.0, "end", 12, &number(tick));
        }
        let ticks: Vec<(f64, String)> = match self.x.names.is_empty() {
            false => self.x.names.iter().enumerate().map(|(nth, name)| (nth as f64, name.clone())).collect(),
            true if self.x.log => {
                // Those that were measured say more than powers of ten.
                let mut there: Vec<f64> = at.collect();
                there.sort_by(f64::total_cmp);
                there.dedup();
                there.into_iter().map(|tick| (tick, number(tick))).collect()
            }
            true => x.ticks().into_iter().map(|tick| (tick, number(tick))).collect(),
        };
        let mut last = f64::NEG_INFINITY;
        for (tick, name) in ticks {
            let to = x.place(tick);
            out.line((to, BOTTOM), (to, BOTTOM + 5.0), "#444444", 1.0, false);
            if to - last > 7.0 * name.chars().count() as f64 {
                out.text(to, BOTTOM + 20.0, "middle", 12, &name);
                last = to;
            }
        }
        out.line((LEFT, BOTTOM), (RIGHT, BOTTOM), "#444444", 1.0, false);
        out.line((LEFT, TOP), (LEFT, BOTTOM), "#444444", 1.0, false);
        out.text((LEFT + RIGHT) / 2.0, HEIGHT - 14.0, "middle", 12, &self.x.label);
        out.turned_text(18.0, (TOP + BOTTOM) / 2.0, 12, &self.y.label);
    }

    fn bars(&self, out: &mut Svg, nth: usize, series: &Series, colour: &str, (x, y): (&Scale, &Scale)) {
        let group = x.place(1.0) - x.place(0.0);
        let width = group * 0.8 / self.series.len() as f64;
        for point in &series.points {
            let middle = x.place(point.x) - group * 0.4 + width * (nth as f64 + 0.5);
            out.line((middle, BOTTOM), (middle, y.place(point.y)), colour, width * 0.9, false);
            out.line((middle, y.place(point.min)), (middle, y.place(point.max)), "#333333", 1.2, false);
        }
    }
}

fn lines(out: &mut Svg, series: &Series, colour: &str, dashed: bool, (x, y): (&Scale, &Scale)) {
    for pair in series.points.windows(2) {
        let [from, to] = [pair[0], pair[1]].map(|point| (x.place(point.x), y.place(point.y)));
        out.line(from, to, colour, 2.0, dashed);
    }
    for point in &series.points {
        let at = x.place(point.x);
        out.line((at, y.place(point.min)), (at, y.place(point.max)), colour, 1.2, false);
        out.dot((at, y.place(point.y)), colour);
    }
}

/// From figures to pixels.
struct Scale {
    log: bool,
    figures: [f64; 2],
    pixels: (f64, f64),
}

impl Scale {
    fn new(log: bool, figures: [f64; 2], pixels: (f64, f64)) -> Self {
        Self { log, figures, pixels }
    }

    /// So that all of these are on it.
    fn over(log: bool, figures: impl Iterator<Item = f64>, pixels: (f64, f64)) -> Self {
        let figures: Vec<f64> = figures.filter(|figure| figure.is_finite() && (!log || *figure > 0.0)).collect();
        let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
        let most = figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if least > most {
            return Self::new(false, [0.0, 1.0], pixels);
        }
        let [least, most] = match log {
            true => [least / 1.15, most * 1.15],
            false => [least.min(0.0), if most > 0.0 { most * 1.06 } else { 1.0 }],
        };
        Self::new(log, [least, most], pixels)
    }

    fn place(&self, figure: f64) -> f64 {
        let on = |figure: f64| if self.log { figure.max(f64::MIN_POSITIVE).ln() } else { figure };
        let [from, to] = self.figures.map(on);
        let share = (on(figure) - from) / (to - from);
        self.pixels.0 + share.clamp(0.0, 1.0) * (self.pixels.1 - self.pixels.0)
    }

    /// Round figures on it.
    fn ticks(&self) -> Vec<f64> {
        let [least, most] = self.figures;
        if self.log {
            let decades = (least.log10().floor() as i32)..=(most.log10().ceil() as i32);
            let all = decades.flat_map(|decade| [1.0, 2.0, 5.0].map(|step| step * 10_f64.powi(decade)));
            return all.filter(|tick| (least..=most).contains(tick)).collect();
        }
        let rough = (most - least) / 6.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|step| step * power).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(10.0 * power);
        let first = (least / step).ceil() as i64;
        (first..).map(|nth| nth as f64 * step).take_while(|tick| *tick <= most).collect()
    }
}

/// A figure beside an axis.
fn number(figure: f64) -> String {
    match figure.abs() {
        0.0 => "0".to_owned(),
        size if size >= 10.0 || figure.fract() == 0.0 => format!("{figure:.0}"),
        size if size >= 0.1 => format!("{figure:.1}"),
        size if size >= 0.01 => format!("{figure:.2}"),
        _ => format!("{figure:.0e}"),
    }
}

struct Svg(String);

impl Svg {
    fn begin() -> Self {
        Self(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
        ))
    }

    fn add(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{line}").expect("a String takes everything");
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), colour: &str, width: f64, dashed: bool) {
        let dashes = if dashed { " stroke-dasharray=\"6 4\"" } else { "" };
        self.add(format_args!(
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\" stroke-width=\"{width:.1}\"{dashes}/>",
            from.0, from.1, to.0, to.1
        ));
    }

    fn dot(&mut self, at: (f64, f64), colour: &str) {
        self.add(format_args!("<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>", at.0, at.1));
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, size: u32, text: &str) {
        let text = escaped(text);
        self.add(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\" fill=\"#222222\">{text}</text>"
        ));
    }

    fn turned_text(&mut self, x: f64, y: f64, size: u32, text: &str) {
        let text = escaped(text);
        self.add(format_args!(
            "<text transform=\"translate({x:.1} {y:.1}) rotate(-90)\" text-anchor=\"middle\" font-size=\"{size}\" fill=\"#222222\">{text}</text>"
        ));
    }

    fn end(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
