//! Generated text between markers of a hand-written one, so that figures in a README are spliced, not typed.

use crate::RenderError;

/// Replaces what stands between `<!-- switchmark:begin NAME -->` and `<!-- switchmark:end NAME -->`.
///
/// Everything outside is kept to the byte. Each marker must occur exactly once and the beginning first: a text that
/// lost one is refused, because guessing would overwrite what somebody wrote.
pub fn splice(text: &str, name: &str, generated: &str) -> Result<String, RenderError> {
    let fault = |fault| RenderError::Splice { name: name.into(), fault };
    let begin = format!("<!-- switchmark:begin {name} -->");
    let end = format!("<!-- switchmark:end {name} -->");
    let once = |marker: &str, missing, twice| match text.matches(marker).count() {
        0 => Err(fault(missing)),
        1 => Ok(text.find(marker).unwrap_or_default()),
        _ => Err(fault(twice)),
    };
    let from = once(&begin, "it has no beginning", "it begins twice")? + begin.len();
    let to = once(&end, "it has no end", "it ends twice")?;
    if to < from {
        return Err(fault("it ends before it begins"));
    }
    if generated.contains("<!-- switchmark:") {
        return Err(fault("the generated text holds a marker itself"));
    }
    Ok(format!("{}\n{}\n{}", &text[..from], generated.trim(), &text[to..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "head\n<!-- switchmark:begin t -->\nold\n<!-- switchmark:end t -->\ntail";

    #[test]
    fn only_what_stands_between_the_markers_changes() {
        let out = splice(TEXT, "t", "new\n").expect("both markers are there");
        assert_eq!(out, TEXT.replace("old", "new"));
    }

    #[test]
    fn splicing_twice_is_splicing_once() {
        let once = splice(TEXT, "t", "| a |\n| - |").expect("both markers are there");
        assert_eq!(splice(&once, "t", "| a |\n| - |").expect("still there"), once);
    }

    #[test]
    fn a_missing_doubled_or_crossed_marker_is_refused() {
        let (b, e) = ("<!-- switchmark:begin t -->", "<!-- switchmark:end t -->");
        for text in [
            "nothing".into(),
            b.into(),
            e.into(),
            format!("{e}{b}"),
            format!("{b}{b}{e}"),
            format!("{b}{e}{e}"),
        ] {
            assert!(splice(&text, "t", "x").is_err(), "{text}");
        }
        assert!(splice(TEXT, "other", "x").is_err());
        assert!(splice(TEXT, "t", e).is_err(), "the next splice would cut there");
    }
}
