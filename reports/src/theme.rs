//! Colours and marks: one table for page, charts and tests.
//!
//! The hues are Okabe and Ito's. Three of them (sky, orange, purple) do not reach 3 : 1 on white, so the light
//! theme darkens them at the same hue; the dark theme lightens the dark ones. A test computes every contrast.
//!
//! A chart is drawn in the light colours. Each light value is unique, so the finished SVG can be told which
//! variable a colour stands for, and a viewer without CSS variables still sees the light theme.

#![allow(clippy::unreadable_literal, reason = "colours are read in three pairs, as CSS writes them")]

use std::fmt::Write as _;

/// One colour of the page, in both themes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Colour {
    /// The variable is `--sw-NAME`.
    pub(crate) name: &'static str,
    pub(crate) light: u32,
    pub(crate) dark: u32,
    pub(crate) role: Role,
}

/// What a colour is used for, hence how much contrast it owes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// What is drawn on.
    Paper,
    /// Read as words: 4.5 : 1.
    Text,
    /// Read as a mark: 3 : 1.
    Mark,
    /// Grid and rules, which carry nothing alone.
    Rule,
}

const fn colour(name: &'static str, light: u32, dark: u32, role: Role) -> Colour {
    Colour { name, light, dark, role }
}

pub(crate) const PAPER: Colour = colour("paper", 0xFFFFFF, 0x111418, Role::Paper);
pub(crate) const RAISED: Colour = colour("raised", 0xF4F5F7, 0x1A1F25, Role::Paper);
pub(crate) const INK: Colour = colour("ink", 0x1B1D20, 0xE6E6E6, Role::Text);
pub(crate) const MUTED: Colour = colour("muted", 0x555B63, 0xAEB5BD, Role::Text);
pub(crate) const ABSENT: Colour = colour("absent", 0x646A72, 0x969EA7, Role::Text);
pub(crate) const LINK: Colour = colour("link", 0x005A9C, 0x7CC4F5, Role::Text);
pub(crate) const WARN: Colour = colour("warn", 0x8A4B00, 0xF0B45A, Role::Text);
pub(crate) const GRID: Colour = colour("grid", 0xD9DCE0, 0x313840, Role::Rule);

pub(crate) const THREAD: Colour = colour("thread", 0xD55E00, 0xFF8A3D, Role::Mark);
pub(crate) const COROUTINE: Colour = colour("coroutine", 0x0072B2, 0x4FB3EA, Role::Mark);
pub(crate) const MIGRATING: Colour = colour("migrating", 0x1F5F9E, 0x7FA9FF, Role::Mark);
pub(crate) const EPOLL: Colour = colour("epoll", 0x000000, 0xF5F5F5, Role::Mark);
pub(crate) const CALL: Colour = colour("call", 0x6E6E6E, 0xB0B0B0, Role::Mark);
pub(crate) const COROSENSEI: Colour = colour("corosensei", 0x8A5A2B, 0xD3A06A, Role::Mark);
pub(crate) const TOKIO: Colour = colour("tokio", 0x008F68, 0x2BC79A, Role::Mark);
pub(crate) const SELF_WAKE: Colour = colour("self-wake", 0x5E7F1C, 0xA9C957, Role::Mark);
pub(crate) const GO: Colour = colour("go", 0x2589BD, 0x56B4E9, Role::Mark);
pub(crate) const JAVA: Colour = colour("java", 0xB57C00, 0xE69F00, Role::Mark);
pub(crate) const MAY: Colour = colour("may", 0xB85C8F, 0xE29AC2, Role::Mark);
pub(crate) const OTHER: Colour = colour("other", 0x7A5195, 0xC09BD8, Role::Mark);

/// Components of the memory bill, in the order of the stack. Their labels stand inside in the paper's colour, so they owe 4.5 : 1.
pub(crate) const USER_STACK: Colour = colour("user-stack", 0x3B5B92, 0x93B4EC, Role::Text);
pub(crate) const USER_OTHER: Colour = colour("user-other", 0x6F5A8C, 0xBDA6DE, Role::Text);
pub(crate) const KERNEL_STACK: Colour = colour("kernel-stack", 0x9A3B26, 0xF0907A, Role::Text);
pub(crate) const SLAB: Colour = colour("slab", 0x7F5F00, 0xDDB84E, Role::Text);
pub(crate) const PAGE_TABLES: Colour = colour("page-tables", 0x2F6B4F, 0x7CCBA2, Role::Text);

/// Layers of a part of a hand-off; they owe the same.
pub(crate) const FLOOR: Colour = colour("floor", 0x5F6770, 0xA3ABB4, Role::Text);
pub(crate) const ENTRY: Colour = colour("entry", 0x92500C, 0xE9A867, Role::Text);
pub(crate) const OWN: Colour = colour("own", 0x2B6A8C, 0x79BEE3, Role::Text);
pub(crate) const SWITCH: Colour = colour("switch", 0x7A3E8E, 0xCBA0DE, Role::Text);

/// Every colour there is.
pub(crate) const ALL: [Colour; 29] = [
    PAPER,
    RAISED,
    INK,
    MUTED,
    ABSENT,
    LINK,
    WARN,
    GRID,
    THREAD,
    COROUTINE,
    MIGRATING,
    EPOLL,
    CALL,
    COROSENSEI,
    TOKIO,
    SELF_WAKE,
    GO,
    JAVA,
    MAY,
    OTHER,
    USER_STACK,
    USER_OTHER,
    KERNEL_STACK,
    SLAB,
    PAGE_TABLES,
    FLOOR,
    ENTRY,
    OWN,
    SWITCH,
];

/// The shape that says the same as the colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Shape {
    Up,
    Down,
    Disc,
    Ring,
    Diamond,
    HollowDiamond,
    Square,
    HollowSquare,
    Cross,
    Plus,
    Right,
    Bar,
}

/// How a contender looks, the same everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) colour: Colour,
    pub(crate) shape: Shape,
    pub(crate) dashed: bool,
}

/// The look of a contender; those we do not know share one.
pub(crate) fn look(contender: &str) -> Look {
    let (colour, shape) = match contender {
        "thread" => (THREAD, Shape::Up),
        "coroutine" => (COROUTINE, Shape::Disc),
        "coroutine-migrating" => (MIGRATING, Shape::Ring),
        "epoll" => (EPOLL, Shape::Diamond),
        "call" => (CALL, Shape::Plus),
        "corosensei" => (COROSENSEI, Shape::HollowDiamond),
        "tokio" => (TOKIO, Shape::Square),
        "tokio-self-wake" => (SELF_WAKE, Shape::Right),
        "go" => (GO, Shape::Down),
        "java" => (JAVA, Shape::Cross),
        "may" => (MAY, Shape::HollowSquare),
        _ => (OTHER, Shape::Bar),
    };
    Look { colour, shape, dashed: contender == "thread" }
}

/// `#RRGGBB`, in capitals as plotters writes it.
pub(crate) fn hex(rgb: u32) -> String {
    format!("#{rgb:06X}")
}

/// The two themes as CSS variables: light, dark by preference, and either by the toggle.
pub(crate) fn css_variables() -> String {
    let block = |pick: fn(&Colour) -> u32| {
        ALL.iter().fold(String::new(), |mut out, c| {
            let _ = write!(out, "--sw-{}:{};", c.name, hex(pick(c)));
            out
        })
    };
    let light = block(|c| c.light);
    let dark = block(|c| c.dark);
    format!(
        ":root{{color-scheme:light dark;{light}}}\n\
         @media (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}\n\
         :root[data-theme=light]{{color-scheme:light}}\n\
         :root[data-theme=dark]{{color-scheme:dark;{dark}}}\n\
         @media print{{:root,:root:not([data-theme=light]),:root[data-theme=dark]{{color-scheme:light;{light}}}}}\n"
    )
}

/// The rules that let the variables reach a chart; each falls back to the light colour.
pub(crate) fn svg_rules() -> String {
    ALL.iter().fold(String::new(), |mut out, c| {
        let (name, light) = (c.name, hex(c.light));
        let _ = write!(
            out,
            ".f-{name}{{fill:var(--sw-{name},{light})}}.s-{name}{{stroke:var(--sw-{name},{light})}}"
        );
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn luminance(rgb: u32) -> f64 {
        let channel = |shift: u32| {
            let c = f64::from((rgb >> shift) & 0xFF) / 255.0;
            if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * channel(16) + 0.7152 * channel(8) + 0.0722 * channel(0)
    }

    fn contrast(a: u32, b: u32) -> f64 {
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn text_is_at_least_four_and_a_half_to_one_and_marks_three_to_one_in_both_themes() {
        let mut faults = Vec::new();
        for c in ALL {
            let owed = match c.role {
                Role::Text => 4.5,
                Role::Mark => 3.0,
                Role::Paper | Role::Rule => continue,
            };
            for (theme, fg, bg) in [
                ("light", c.light, PAPER.light),
                ("light, raised", c.light, RAISED.light),
                ("dark", c.dark, PAPER.dark),
                ("dark, raised", c.dark, RAISED.dark),
            ] {
                let got = contrast(fg, bg);
                if got < owed {
                    faults.push(format!("{} in {theme}: {got:.2} of {owed}", c.name));
                }
            }
        }
        assert!(faults.is_empty(), "{faults:#?}");
    }

    #[test]
    fn contrast_of_black_on_white_is_twenty_one() {
        assert!((contrast(0, 0xFF_FF_FF) - 21.0).abs() < 1e-9);
    }

    #[test]
    fn light_colours_are_unique_so_that_each_stands_for_one_variable() {
        let values: HashSet<u32> = ALL.iter().map(|c| c.light).collect();
        let names: HashSet<&str> = ALL.iter().map(|c| c.name).collect();
        assert_eq!((values.len(), names.len()), (ALL.len(), ALL.len()));
    }

    #[test]
    fn no_two_known_contenders_share_a_shape_or_a_colour() {
        let known = [
            "thread",
            "coroutine",
            "coroutine-migrating",
            "epoll",
            "call",
            "corosensei",
            "tokio",
            "tokio-self-wake",
            "go",
            "java",
            "may",
            "a stranger",
        ];
        let shapes: HashSet<Shape> = known.iter().map(|k| look(k).shape).collect();
        let colours: HashSet<u32> = known.iter().map(|k| look(k).colour.light).collect();
        assert_eq!((shapes.len(), colours.len()), (known.len(), known.len()));
    }
}
