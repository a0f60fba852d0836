//! Charts: data in, SVG out. One file a kind of chart; this one holds what all share.
//!
//! All drawing goes through plotters at twice the view box, because it draws at whole pixels. It also guesses
//! label widths, so labels are placed here, with room and never right-aligned legends; `words::width_em` says
//! how much. plotters draws an empty chart in silence where a range holds NaN: every number passes
//! `words::drawable` or `words::finite` before it comes near an axis.
//!
//! [`finish`] makes the SVG fit to be read: `role`, `<title>`, `<desc>`, `viewBox`, and a class beside each
//! colour. The attribute keeps the light colour, for viewers without CSS variables; the class follows the theme.

mod bill;
mod dots;
mod limit;
mod load;
mod tail;
mod waterfall;

pub(crate) use bill::components;
use dots::tick_label;
pub(crate) use waterfall::told;

use crate::RenderError;
use crate::theme::{self, Colour, Look, Shape};
use crate::view::{self, Family, Workload};
use crate::words::clean;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::fmt::Write as _;
use switchmark_schema::ResultDocument;

/// A finished drawing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chart {
    /// Fit for a file name: `headline`, `switch-yield`, `stack-idle-bill`.
    pub name: String,
    /// The finding, or where there is none, what is drawn.
    pub title: String,
    /// Stand-alone SVG with title and source: light by itself, in the page's theme where its CSS variables are set.
    pub svg: String,
}

/// Every chart of a result, the headline first, then in the order of the page.
pub fn charts(result: &ResultDocument) -> Result<Vec<Chart>, RenderError> {
    let families = view::families(result);
    let mut out = Vec::new();
    out.extend(headline(&families)?);
    for workload in families.iter().flat_map(|f| &f.workloads) {
        out.extend(of_workload(workload)?);
    }
    let mut names = std::collections::HashSet::new();
    for chart in &mut out {
        // Two ids of a hostile document may differ in signs that a file name cannot hold.
        let (name, mut n) = (chart.name.clone(), 2);
        while !names.insert(chart.name.clone()) {
            chart.name = format!("{name}-{n}");
            n += 1;
        }
        chart.svg = stand_alone(chart, &source(result));
    }
    Ok(out)
}

/// Where a picture that travels alone comes from.
pub(crate) fn source(result: &ResultDocument) -> String {
    format!(
        "Switchmark · {} · Linux {} · machine {} · {}",
        clean(&result.machine.cpu, 60),
        clean(&result.machine.kernel, 24),
        clean(&result.machine.key, 16),
        clean(&result.run.started, 24)
    )
}

/// Gives a chart of the page what the page says around it: a title, a margin, the source, and the stylesheet.
pub(crate) fn stand_alone(chart: &Chart, source: &str) -> String {
    const MARGIN: f64 = 32.0;
    const TITLE: f64 = 30.0;
    let lines = wrap(&chart.title, 46.0);
    let head = MARGIN + 42.0 * lines.len() as f64 + 10.0;
    let foot = 34.0 + MARGIN;
    let Some((open, rest)) = chart.svg.split_once("<rect ") else {
        return chart.svg.clone();
    };
    let Some(height) = open
        .split_once(&format!("viewBox=\"0 0 {} ", WIDTH * ENLARGE))
        .and_then(|(_, t)| t.split_once('"'))
        .and_then(|(h, _)| h.parse::<f64>().ok())
    else {
        return chart.svg.clone();
    };
    let width = WIDTH * ENLARGE + 2.0 * MARGIN;
    let open = open.replace(
        &format!("viewBox=\"0 0 {} {height}\"", WIDTH * ENLARGE),
        &format!("viewBox=\"-{MARGIN} -{head} {width} {}\"", height + head + foot),
    );
    let mut out = format!(
        "{open}<style>{}</style>\n<rect class=\"f-paper\" x=\"-{MARGIN}\" y=\"-{head}\" width=\"{width}\" height=\"{}\" fill=\"{}\"/>\n",
        theme::svg_rules(),
        height + head + foot,
        theme::hex(theme::PAPER.light)
    );
    for (n, line) in lines.iter().enumerate() {
        let y = MARGIN + TITLE + 42.0 * n as f64 - head - 4.0;
        let _ = writeln!(
            out,
            "<text class=\"f-ink\" x=\"0\" y=\"{y}\" font-size=\"{TITLE}\" font-weight=\"600\" fill=\"{}\">{}</text>",
            theme::hex(theme::INK.light),
            escape_xml(line)
        );
    }
    let body = rest.trim_end().strip_suffix("</svg>").unwrap_or(rest);
    let _ = write!(
        out,
        "<rect {body}<text class=\"f-muted\" x=\"0\" y=\"{}\" font-size=\"21\" fill=\"{}\">{}</text>\n</svg>\n",
        height + 30.0,
        theme::hex(theme::MUTED.light),
        escape_xml(&crate::words::fit(source, 66.0))
    );
    out
}

/// A title in lines of at most so many em, three at most.
fn wrap(text: &str, em: f64) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in crate::words::fit(text, em * 2.6).split(' ') {
        let full = lines
            .last()
            .is_some_and(|l| !l.is_empty() && crate::words::width_em(l) + crate::words::width_em(word) > em);
        if full && lines.len() < 3 {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// A row per operation; absent where no operation has a number.
pub(crate) fn headline(families: &[Family]) -> Result<Option<Chart>, RenderError> {
    dots::headline(families)
}

/// The figures of a workload: the bill where its units were weighed, the limits where they were looked for, the waterfall where it has the parts of something, else dots, after the lines of a load or of a tail where it has them, and
/// before what a connection weighs or a unit keeps of its depth.
pub(crate) fn of_workload(workload: &Workload) -> Result<Vec<Chart>, RenderError> {
    let mut out = Vec::new();
    out.extend(bill::bill(workload)?);
    out.extend(limit::limit(workload)?);
    out.extend(waterfall::waterfall(workload)?);
    if out.is_empty() {
        out.extend(load::load(workload)?);
        out.extend(tail::tail(workload)?);
        out.extend(dots::workload(workload)?);
        out.extend(bill::connections(workload)?);
        out.extend(bill::depth(workload)?);
    }
    Ok(out)
}

/// Who is who: a mark and a name for each, in a line at the top.
fn key<'a>(canvas: &mut Canvas, names: impl Iterator<Item = &'a str>) {
    let mut x = 6.0;
    for name in names {
        let name = crate::words::fit(name, 12.0);
        let wide = crate::words::width_em(&name) * 13.0;
        if x + 14.0 + wide > WIDTH {
            break;
        }
        canvas.mark(x, 12.0, theme::look(&name));
        canvas.text((x + 12.0, 12.0), &name, 13.0, theme::INK, Hold::Left, false);
        x += 12.0 + wide + 26.0;
    }
}

/// A small chart for an aspect: the quoted group, or one group of each placement where that is the question.
pub(crate) fn small(workload: &Workload, by_placement: bool) -> Result<Option<Chart>, RenderError> {
    dots::small(workload, by_placement)
}

/// Drops what only a browser understands.
pub(crate) fn without_style(svg: &str) -> String {
    match (svg.find("<style>"), svg.find("</style>")) {
        (Some(from), Some(to)) if from < to => format!("{}{}", &svg[..from], &svg[to + "</style>".len()..]),
        _ => svg.into(),
    }
}

/// Width of every view box; the page shows charts at up to this many CSS pixels.
pub(crate) const WIDTH: f64 = 720.0;
/// plotters draws at whole pixels, so it draws larger.
const ENLARGE: f64 = 2.0;
/// Stroke widths that mean something; a test counts caps. In enlarged pixels.
pub(crate) const CAP: u32 = 3;
const WHISKER: u32 = 4;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A sheet in CSS pixels.
pub(crate) struct Canvas<'a> {
    area: Area<'a>,
    fault: Option<String>,
}

/// Where a text is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    Left,
    Middle,
}

#[allow(clippy::cast_possible_truncation, reason = "clamped to a sheet that a picture can hold")]
fn px(v: f64) -> i32 {
    (v * ENLARGE).round().clamp(-100_000.0, 100_000.0) as i32
}

fn rgb(c: Colour) -> RGBColor {
    let [_, r, g, b] = c.light.to_be_bytes();
    RGBColor(r, g, b)
}

impl Canvas<'_> {
    /// Keeps the first fault; the rest of the drawing goes on and is thrown away.
    fn keep<E: std::fmt::Display>(&mut self, done: Result<(), E>) {
        if let (Err(e), None) = (done, &self.fault) {
            self.fault = Some(e.to_string());
        }
    }

    pub(crate) fn text(
        &mut self,
        (x, y): (f64, f64),
        text: &str,
        size: f64,
        colour: Colour,
        hold: Hold,
        bold: bool,
    ) {
        // plotters takes the size of a line and divides by 1.24 to get the font's.
        let mut font = ("sans-serif", size * ENLARGE * 1.24).into_font();
        if bold {
            font = font.style(FontStyle::Bold);
        }
        let h = match hold {
            Hold::Left => HPos::Left,
            Hold::Middle => HPos::Center,
        };
        let ink = rgb(colour);
        let style = TextStyle::from(font).color(&ink).pos(Pos::new(h, VPos::Center));
        let done = self.area.draw(&Text::new(clean(text, 300), (px(x), px(y)), style));
        self.keep(done);
    }

    /// A quiet word: column heads, notes.
    pub(crate) fn note(&mut self, at: (f64, f64), text: &str) {
        self.text(at, text, 12.0, theme::MUTED, Hold::Left, false);
    }

    /// `thick` is in enlarged pixels, as are [`CAP`] and its like.
    pub(crate) fn line(&mut self, from: (f64, f64), to: (f64, f64), colour: Colour, thick: u32) {
        let ends = vec![(px(from.0), px(from.1)), (px(to.0), px(to.1))];
        let done = self.area.draw(&PathElement::new(ends, rgb(colour).stroke_width(thick)));
        self.keep(done);
    }

    pub(crate) fn rect(&mut self, from: (f64, f64), to: (f64, f64), colour: Colour) {
        let corners = [(px(from.0), px(from.1)), (px(to.0), px(to.1))];
        let done = self.area.draw(&Rectangle::new(corners, rgb(colour).filled()));
        self.keep(done);
    }

    pub(crate) fn faint_dot(&mut self, x: f64, y: f64, colour: Colour) {
        let style = rgb(colour).mix(0.38).filled();
        let done = self.area.draw(&Circle::new((px(x), px(y)), px(2.2), style));
        self.keep(done);
    }

    /// An interval: a line between two caps that stand out over the mark, however narrow it is.
    pub(crate) fn whisker(&mut self, low: f64, high: f64, y: f64, look: Look) {
        let colour = look.colour;
        if look.dashed && high - low > 24.0 {
            let ends = vec![(px(low), px(y)), (px(high), px(y))];
            let dashed = plotters::element::DashedPathElement::new(
                ends,
                px(5.0),
                px(3.0),
                rgb(colour).stroke_width(WHISKER),
            );
            let done = self.area.draw(&dashed);
            self.keep(done);
        } else {
            self.line((low, y), (high, y), colour, WHISKER);
        }
        for x in [low, high] {
            self.line((x, y - 7.5), (x, y + 7.5), colour, CAP);
        }
    }

    /// The same standing, for a plot in which the value goes up. Never dashed: it is narrow, and the line that it stands on is.
    pub(crate) fn upright(&mut self, low: f64, high: f64, x: f64, look: Look) {
        self.line((x, low), (x, high), look.colour, CAP - 1);
        for y in [low, high] {
            self.line((x - 3.0, y), (x + 3.0, y), look.colour, CAP);
        }
    }

    /// A contender's line through its points, from the left.
    pub(crate) fn curve(&mut self, points: &[(f64, f64)], look: Look) {
        let style = rgb(look.colour).stroke_width(WHISKER);
        let points = points.iter().map(|(x, y)| (px(*x), px(*y))).collect::<Vec<_>>();
        if points.len() < 2 {
            return;
        }
        if look.dashed {
            let dashed = plotters::element::DashedPathElement::new(points, px(5.0), px(3.0), style);
            let done = self.area.draw(&dashed);
            self.keep(done);
        } else {
            let done = self.area.draw(&PathElement::new(points, style));
            self.keep(done);
        }
    }

    /// The contender's mark. Hollow shapes are filled with paper, so that a whisker does not run through them.
    pub(crate) fn mark(&mut self, x: f64, y: f64, look: Look) {
        self.mark_sized(x, y, look, 1.0);
    }

    /// A smaller one, where many stand close together.
    pub(crate) fn small_mark(&mut self, x: f64, y: f64, look: Look) {
        self.mark_sized(x, y, look, 0.72);
    }

    fn mark_sized(&mut self, x: f64, y: f64, look: Look, size: f64) {
        let c = look.colour;
        let polygon = |s: &mut Self, r: f64, colour: Colour, corners: &[(f64, f64)]| {
            let corners: Vec<_> =
                corners.iter().map(|(dx, dy)| (px(x + dx * r * size), px(y + dy * r * size))).collect();
            let done = s.area.draw(&Polygon::new(corners, rgb(colour).filled()));
            s.keep(done);
        };
        let disc = |s: &mut Self, r: f64, colour: Colour| {
            let done = s.area.draw(&Circle::new((px(x), px(y)), px(r * size), rgb(colour).filled()));
            s.keep(done);
        };
        let diamond = [(0.0, -1.2), (1.2, 0.0), (0.0, 1.2), (-1.2, 0.0)];
        let square = [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)];
        let paper = theme::PAPER;
        match look.shape {
            Shape::Up => polygon(self, 5.5, c, &[(0.0, -1.1), (1.1, 0.85), (-1.1, 0.85)]),
            Shape::Down => polygon(self, 5.5, c, &[(0.0, 1.1), (1.1, -0.85), (-1.1, -0.85)]),
            Shape::Right => polygon(self, 5.5, c, &[(1.1, 0.0), (-0.85, 1.1), (-0.85, -1.1)]),
            Shape::Disc => disc(self, 5.0, c),
            Shape::Ring => {
                disc(self, 5.5, c);
                disc(self, 3.0, paper);
            }
            Shape::Diamond => polygon(self, 5.0, c, &diamond),
            Shape::HollowDiamond => {
                polygon(self, 5.5, c, &diamond);
                polygon(self, 2.8, paper, &diamond);
            }
            Shape::Square => polygon(self, 5.2, c, &square),
            Shape::HollowSquare => {
                polygon(self, 5.6, c, &square);
                polygon(self, 3.0, paper, &square);
            }
            Shape::Plus => {
                let (long, thin) = (5.5 * size, 1.75 * size);
                self.rect((x - long, y - thin), (x + long, y + thin), c);
                self.rect((x - thin, y - long), (x + thin, y + long), c);
            }
            Shape::Cross => {
                for flip in [1.0, -1.0] {
                    let arm =
                        [(-1.0, -0.6), (-0.6, -1.0), (1.0, 0.6), (0.6, 1.0)].map(|(a, b)| (a, b * flip));
                    polygon(self, 5.2, c, &arm);
                }
            }
            Shape::Bar => {
                let (wide, high) = (2.5 * size, 6.0 * size);
                self.rect((x - wide, y - high), (x + wide, y + high), c);
            }
        }
    }
}

/// Draws on a sheet of the given height and finishes it.
pub(crate) fn draw(
    name: &str,
    title: String,
    description: &str,
    height: f64,
    paint: impl FnOnce(&mut Canvas<'_>),
) -> Result<Chart, RenderError> {
    draw_sized(name, title, description, (WIDTH, height), paint)
}

/// The same on a sheet of any size.
pub(crate) fn draw_sized(
    name: &str,
    title: String,
    description: &str,
    (width, height): (f64, f64),
    paint: impl FnOnce(&mut Canvas<'_>),
) -> Result<Chart, RenderError> {
    let fault = |cause: String| RenderError::Chart { name: name.into(), cause };
    let mut raw = String::new();
    let size = (px(width).unsigned_abs(), px(height).unsigned_abs());
    {
        let area = SVGBackend::with_string(&mut raw, size).into_drawing_area();
        let mut canvas = Canvas { area, fault: None };
        canvas.rect((0.0, 0.0), (width, height), theme::PAPER);
        paint(&mut canvas);
        if let Some(cause) = canvas.fault {
            return Err(fault(cause));
        }
        canvas.area.present().map_err(|e| fault(e.to_string()))?;
    }
    let svg =
        finish(&raw, &file_name(name), &title, description).ok_or_else(|| fault("no svg came out".into()))?;
    Ok(Chart { name: file_name(name), title, svg })
}

/// Letters, digits and hyphens, for a file and for an id.
pub(crate) fn file_name(name: &str) -> String {
    let out: String = name
        .chars()
        .take(60)
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .collect();
    if out.is_empty() { "chart".into() } else { out }
}

/// Gives a raw drawing its role, names, view box and classes.
fn finish(raw: &str, id: &str, title: &str, description: &str) -> Option<String> {
    let body = raw.split_once('>')?.1.rsplit_once("</svg>")?.0;
    let width = raw.split_once("width=\"")?.1.split_once('"')?.0;
    let height = raw.split_once("height=\"")?.1.split_once('"')?.0;
    let mut out = String::with_capacity(raw.len() * 2);
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
         aria-labelledby=\"{id}-t {id}-d\" font-family=\"Inter, system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif\">\n\
         <title id=\"{id}-t\">{}</title>\n<desc id=\"{id}-d\">{}</desc>\n",
        escape_xml(title),
        escape_xml(description)
    );
    for line in body.lines() {
        // Only tags hold attributes; a line of text cannot, its quotes are escaped.
        if line.starts_with('<') {
            out.push_str(&classed(line));
            out.push('\n');
        } else {
            out.push_str(line.trim());
        }
    }
    out.push_str("</svg>\n");
    Some(
        out.replace(" font-family=\"sans-serif\"", "")
            .replace(" dy=\"0.5ex\"", " dy=\"0.36em\"")
            .replace(" opacity=\"1\"", "")
            .replace(" font-weight=\"bold\"", " font-weight=\"600\""),
    )
}

/// Puts the class of its colour beside a colour.
fn classed(tag: &str) -> String {
    for (attribute, prefix) in [("fill", 'f'), ("stroke", 's')] {
        let key = format!(" {attribute}=\"#");
        let Some(at) = tag.find(&key) else { continue };
        let Some(value) = tag.get(at + key.len()..at + key.len() + 6) else {
            continue;
        };
        let known = theme::ALL.iter().find(|c| u32::from_str_radix(value, 16) == Ok(c.light));
        if let Some(c) = known {
            return format!("{} class=\"{prefix}-{}\"{}", &tag[..at], c.name, &tag[at..]);
        }
    }
    tag.into()
}

fn escape_xml(text: &str) -> String {
    clean(text, 2000).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A log axis between two numbers, widened by ourselves, with the ticks it deserves.
pub(crate) struct LogAxis {
    coord: plotters::coord::combinators::LogCoord<f64>,
    range: (f64, f64),
    span: (f64, f64),
}

impl LogAxis {
    /// From the least value to the greatest, with nothing at the ends: for places where a value stands, not for sizes. A lone value is in the middle.
    pub(crate) fn tight(values: impl Iterator<Item = f64>, span: (f64, f64)) -> Option<LogAxis> {
        let values: Vec<f64> = values.filter_map(crate::words::drawable).collect();
        let low = values.iter().copied().reduce(f64::min)?;
        let high = values.iter().copied().reduce(f64::max)?;
        let (low, high) = if low < high { (low, high) } else { (low / 2.0, high * 2.0) };
        Some(LogAxis { coord: (low..high).log_scale().into(), range: (low, high), span })
    }

    /// The same values at another place.
    pub(crate) fn moved(&self, span: (f64, f64)) -> LogAxis {
        let (low, high) = self.range;
        LogAxis { coord: (low..high).log_scale().into(), range: self.range, span }
    }

    /// Where on the sheet the ends are.
    pub(crate) fn span(&self) -> (f64, f64) {
        self.span
    }

    /// Over all values that can be drawn; `span` is where on the sheet, in CSS pixels.
    pub(crate) fn over(values: impl Iterator<Item = f64>, span: (f64, f64)) -> Option<LogAxis> {
        let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
        for v in values.filter_map(crate::words::drawable) {
            low = low.min(v);
            high = high.max(v);
        }
        if high == 0.0 {
            return None;
        }
        let (mut low, mut high) = (low / 1.25, high * 1.25);
        // Less than half a decade would make noise look like difference.
        let room = (3.2 / (high / low)).max(1.0).sqrt();
        low /= room;
        high *= room;
        Some(LogAxis { coord: (low..high).log_scale().into(), range: (low, high), span })
    }

    /// Position of a value, held at the ends.
    pub(crate) fn at(&self, v: f64) -> f64 {
        let v = v.clamp(self.range.0, self.range.1);
        f64::from(self.coord.map(&v, (px(self.span.0), px(self.span.1)))) / ENLARGE
    }

    /// Labelled ticks: decades, thinned where there are many, with 2 and 5 where there are few.
    pub(crate) fn ticks(&self, unit: &str) -> Vec<f64> {
        let (low, high) = self.range;
        if crate::words::unit_parts(unit).0 == "bytes" {
            return self.powers_of_two();
        }
        let decades = (high / low).log10();
        let multiples: &[f64] = match decades {
            d if d < 0.7 => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0],
            d if d < 2.2 => &[1.0, 2.0, 5.0],
            _ => &[1.0],
        };
        #[allow(clippy::cast_possible_truncation, reason = "between -10 and 19, by `drawable`")]
        let (from, to) = (low.log10().floor() as i32, high.log10().ceil() as i32);
        let step = ((to - from) / 9).max(0) + 1;
        (from..=to)
            .filter(|e| (e - from) % step == 0)
            .flat_map(|e| multiples.iter().map(move |m| m * 10_f64.powi(e)))
            .filter(|t| (low..=high).contains(t))
            .collect()
    }
}

impl LogAxis {
    /// Bytes are counted in powers of two; a decimal tick would be a crooked number of KiB.
    fn powers_of_two(&self) -> Vec<f64> {
        let (low, high) = self.range;
        #[allow(clippy::cast_possible_truncation, reason = "between -30 and 60, by `drawable`")]
        let (from, to) = (low.log2().ceil() as i32, high.log2().floor() as i32);
        let step = ((to - from) / 6).max(0) + 1;
        (from..=to).filter(|e| (e - from) % step == 0).map(|e| 2_f64.powi(e)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_axis_has_two_ticks_at_least_and_never_a_crowd() {
        for (low, high) in [(4.05, 4.06), (1.0, 9.0), (3.0, 70_000.0), (1e-9, 9e17), (998.0, 1002.0)] {
            let axis = LogAxis::over([low, high].into_iter(), (150.0, 450.0)).expect("both can be drawn");
            let ticks = axis.ticks("ns");
            assert!((2..=11).contains(&ticks.len()), "{low}..{high}: {ticks:?}");
            assert!(axis.at(low) > 150.0 && axis.at(high) < 450.0);
        }
    }

    #[test]
    fn no_axis_is_drawn_over_nothing_or_nan() {
        assert!(LogAxis::over([f64::NAN, 0.0, -1.0, f64::INFINITY].into_iter(), (0.0, 1.0)).is_none());
    }

    #[test]
    fn the_first_fault_of_a_drawing_is_its_error_not_a_broken_chart() {
        let done = draw("x", "t".into(), "d", 10.0, |c| c.keep(Err::<(), _>("no ink")));
        assert!(matches!(done, Err(RenderError::Chart { cause, .. }) if cause == "no ink"));
    }
}
