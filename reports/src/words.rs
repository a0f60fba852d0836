//! Numbers and strings as a reader meets them: significant digits, units, intervals, and text made harmless.
//!
//! Every float of a document passes [`finite`] before anything draws or prints it.

/// A number that can be worked with; documents in memory may hold NaN, and plotters would draw an empty chart in silence.
pub(crate) fn finite(x: f64) -> Option<f64> {
    x.is_finite().then_some(x)
}

/// A number that a log axis can show. The bounds are far outside of anything measured.
pub(crate) fn drawable(x: f64) -> Option<f64> {
    (x.is_finite() && (1e-9..1e18).contains(&x)).then_some(x)
}

/// Three significant digits, never fewer digits than the integer part has.
pub(crate) fn digits(x: f64) -> String {
    if !x.is_finite() {
        return "–".into();
    }
    let size = x.abs();
    if size == 0.0 {
        return "0".into();
    }
    if !(1e-4..1e9).contains(&size) {
        return format!("{x:.2e}");
    }
    let decimals = match size {
        s if s >= 99.95 => 0,
        s if s >= 9.995 => 1,
        s if s >= 0.9995 => 2,
        s if s >= 0.09995 => 3,
        s if s >= 0.009_995 => 4,
        _ => 5,
    };
    let text = format!("{x:.decimals$}");
    if decimals == 0 { group(&text) } else { text }
}

/// Thousands apart by a thin no-break space, from five digits on.
fn group(integer: &str) -> String {
    let (sign, digits) = integer.strip_prefix('-').map_or(("", integer), |d| ("-", d));
    if digits.len() < 5 {
        return integer.into();
    }
    let mut out = String::from(sign);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(c);
    }
    out
}

/// A count, grouped.
pub(crate) fn count(n: u64) -> String {
    group(&n.to_string())
}

/// The unit a value is best read in: what to divide by, and its symbol.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scale {
    pub(crate) divisor: f64,
    pub(crate) symbol: String,
}

/// `ns/switch` is `ns`, per `switch`. `µs late` is `µs`: the word says of what.
pub(crate) fn unit_parts(unit: &str) -> (&str, Option<&str>) {
    match unit.split_once('/') {
        Some((base, per)) => (base.trim(), Some(per.trim())),
        None => (unit.trim().strip_suffix(" late").unwrap_or(unit.trim()), None),
    }
}

/// Chooses the unit for a value: 62 800 ns are 62.8 µs.
pub(crate) fn scale(value: f64, unit: &str) -> Scale {
    let (base, _) = unit_parts(unit);
    let of = |divisor: f64, symbol: &str| Scale { divisor, symbol: symbol.into() };
    let in_ns = match base {
        "ns" => Some(1.0),
        "us" | "µs" | "μs" => Some(1e3),
        "ms" => Some(1e6),
        "s" => Some(1e9),
        _ => None,
    };
    if let Some(to_ns) = in_ns {
        return match value.abs() * to_ns {
            v if v < 999.5 => of(1.0 / to_ns, "ns"),
            v if v < 999.5e3 => of(1e3 / to_ns, "µs"),
            v if v < 999.5e6 => of(1e6 / to_ns, "ms"),
            _ => of(1e9 / to_ns, "s"),
        };
    }
    if base == "bytes" || base == "B" {
        return match value.abs() {
            v if v < 1024.0 => of(1.0, "B"),
            v if v < 1024.0 * 1024.0 => of(1024.0, "KiB"),
            v if v < 1024.0 * 1024.0 * 1024.0 => of(1024.0 * 1024.0, "MiB"),
            _ => of(1024.0 * 1024.0 * 1024.0, "GiB"),
        };
    }
    of(1.0, &clean(unit, 16))
}

/// `9.10 ns`.
pub(crate) fn quantity(value: f64, unit: &str) -> String {
    let s = scale(value, unit);
    join(&digits(value / s.divisor), &s.symbol)
}

/// `690 ns (671–702)`, the ends in the unit of the middle.
pub(crate) fn quantity_interval(value: f64, low: f64, high: f64, unit: &str) -> String {
    let s = scale(value, unit);
    format!("{} ({})", join(&digits(value / s.divisor), &s.symbol), range(low / s.divisor, high / s.divisor))
}

fn join(number: &str, symbol: &str) -> String {
    if symbol.is_empty() { number.into() } else { format!("{number}\u{a0}{symbol}") }
}

/// `671–702`.
pub(crate) fn range(low: f64, high: f64) -> String {
    format!("{}–{}", digits(low), digits(high))
}

/// A factor: two decimals are enough of it, down to a tenth.
pub(crate) fn factor(x: f64) -> String {
    match x {
        x if (0.1..0.9995).contains(&x) => format!("{x:.2}"),
        x if x > 0.0 && x < PART => format!("1/{}", digits((1.0 / x).round())),
        x => digits(x),
    }
}

/// Below this a factor is read more easily as a part of one.
const PART: f64 = 0.01;

/// `168× (161–172)`; `1/11 468 (1/13 422–1/10 529)`.
pub(crate) fn factor_interval(median: f64, low: f64, high: f64) -> String {
    let sign = if median < PART { "" } else { "×" };
    format!("{}{sign} ({}–{})", factor(median), factor(low), factor(high))
}

/// A share of one as per cent: `5.2 %`, `0.07 %`.
pub(crate) fn percent(share: f64) -> String {
    let p = share * 100.0;
    let text = match p.abs() {
        v if v >= 9.95 => format!("{p:.0}"),
        v if v >= 0.995 => format!("{p:.1}"),
        v if v >= 0.0095 => format!("{p:.2}"),
        _ => "under 0.01".into(),
    };
    format!("{text}\u{a0}%")
}

/// A level as it is spoken: `96.9 %`.
pub(crate) fn level(level: f64) -> String {
    let p = level * 100.0;
    if p > 99.9 { format!("{p:.2}\u{a0}%") } else { format!("{p:.1}\u{a0}%") }
}

/// One line of at most `most` characters, without control characters and without the marks that turn text around.
///
/// Escaping is the business of whoever writes the text down; this is about what no output may carry at all.
pub(crate) fn clean(text: &str, most: usize) -> String {
    let mut out = String::new();
    for (n, c) in text
        .chars()
        .map(|c| if c.is_whitespace() && !matches!(c, '\u{a0}' | '\u{202f}') { ' ' } else { c })
        .filter(|c| !c.is_control() && !is_invisible(*c))
        .enumerate()
    {
        if n + 1 >= most && text.chars().count() > most {
            out.push('…');
            break;
        }
        out.push(c);
    }
    out.trim().to_owned()
}

/// Direction overrides, byte-order marks and code points that XML forbids.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// Roughly how wide a text will be, in em of Inter; an estimate on the generous side.
pub(crate) fn width_em(text: &str) -> f64 {
    text.chars()
        .map(|c| match c {
            ' ' | '.' | ',' | ':' | ';' | '\'' | '|' | 'i' | 'j' | 'l' | 'I' | '\u{a0}' | '·' => 0.30,
            'f' | 't' | 'r' | '(' | ')' | '[' | ']' | '/' | '-' => 0.40,
            'm' | 'w' | 'M' | 'W' | '%' | '…' | '@' => 0.92,
            '\u{202f}' => 0.2,
            'A'..='Z' => 0.72,
            '1' => 0.48,
            '0'..='9' | '–' | '=' | '×' | '+' => 0.66,
            c if c.is_ascii() => 0.60,
            'µ' | '÷' => 0.66,
            _ => 1.0,
        })
        .sum()
}

/// Cuts a text so that it fits a width.
pub(crate) fn fit(text: &str, em: f64) -> String {
    let text = clean(text, 400);
    if width_em(&text) <= em {
        return text;
    }
    let mut out = String::new();
    for c in text.chars() {
        out.push(c);
        if width_em(&out) > em - 0.92 {
            out.pop();
            break;
        }
    }
    format!("{}…", out.trim_end())
}

/// As [`fit`], for parts between dots: whole ones, as many as fit.
pub(crate) fn fit_parts(text: &str, em: f64) -> String {
    const BETWEEN: &str = " · ";
    let ends = text.match_indices(BETWEEN).map(|(at, _)| at);
    let shortened =
        ends.map(|at| format!("{}{BETWEEN}…", &text[..at])).take_while(|t| width_em(t) <= em).last();
    match shortened {
        Some(shortened) if width_em(text) > em => shortened,
        _ => fit(text, em),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_that_is_too_long_loses_whole_parts() {
        let label = "capacity 0 · producers 1 · consumers 1 · implementation own";
        assert_eq!(fit_parts(label, 100.0), label);
        let short = fit_parts(label, 17.4);
        assert_eq!(short, "capacity 0 · producers 1 · …");
        assert!(width_em(&short) <= 17.4);
        assert!(fit_parts("one part that is far too long for it", 5.0).ends_with('…'));
    }

    #[test]
    fn numbers_keep_three_digits_and_lose_none_of_their_integer_part() {
        for (x, text) in [
            (4.05, "4.05"),
            (9.999, "10.0"),
            (99.96, "100"),
            (690.12, "690"),
            (9776.4, "9776"),
            (38189.0, "38\u{202f}189"),
            (0.00585, "0.00585"),
            (0.0, "0"),
            (f64::NAN, "–"),
            (1e12, "1.00e12"),
        ] {
            assert_eq!(digits(x), text);
        }
    }

    #[test]
    fn times_and_bytes_are_read_in_the_unit_that_fits() {
        assert_eq!(quantity(62_798.0, "ns/round trip"), "62.8\u{a0}µs");
        assert_eq!(quantity(16.6, "µs"), "16.6\u{a0}µs");
        assert_eq!(quantity(0.9, "ms"), "900\u{a0}µs");
        assert_eq!(quantity(19_600.0, "µs late"), "19.6\u{a0}ms");
        assert_eq!(quantity(38_189.0, "bytes/unit"), "37.3\u{a0}KiB");
        assert_eq!(quantity(1200.0, "requests/s"), "1200\u{a0}requests/s");
        assert_eq!(quantity_interval(690.0, 671.0, 1702.0, "ns"), "690\u{a0}ns (671–1702)");
    }

    #[test]
    fn control_and_direction_characters_leave_no_trace() {
        assert_eq!(clean("a\u{1b}[31mb\n\u{202e}c\u{0}", 99), "a[31mb c");
        assert_eq!(clean("abcdef", 4), "abc…");
        assert_eq!(clean("abcd", 4), "abcd");
    }

    #[test]
    fn a_fitted_text_fits() {
        for text in ["short", "a very long reason that no lane of a chart can hold without cutting it"] {
            assert!(width_em(&fit(text, 20.0)) <= 20.0);
        }
        assert_eq!(fit("short", 20.0), "short");
    }

    #[test]
    fn small_shares_are_not_rounded_to_nothing() {
        assert_eq!(percent(0.0523), "5.2\u{a0}%");
        assert_eq!(percent(0.0007), "0.07\u{a0}%");
        assert_eq!(percent(0.00001), "under 0.01\u{a0}%");
        assert_eq!(percent(0.52), "52\u{a0}%");
    }
}
