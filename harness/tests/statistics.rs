//! Our statistics against scipy's and numpy's figures of the same numbers (`scripts/statistics` made them).

use serde::Deserialize;
use switchmark_harness::stats::{Sample, hodges_lehmann, interval, spread, theil_sen};

#[derive(Deserialize)]
struct Reference {
    samples: Vec<Figures>,
    lines: Vec<Line>,
}

#[derive(Deserialize)]
struct Figures {
    values: Vec<f64>,
    median: f64,
    hodges_lehmann: f64,
    spread: f64,
    interval: Option<Bounds>,
}

#[derive(Deserialize)]
struct Bounds {
    low: f64,
    high: f64,
    level: f64,
}

#[derive(Deserialize)]
struct Line {
    x: Vec<f64>,
    y: Vec<f64>,
    slope: f64,
}

fn reference() -> Reference {
    serde_json::from_str(include_str!("statistics.json")).unwrap()
}

fn close(ours: f64, theirs: f64) -> bool {
    (ours - theirs).abs() <= 1e-12 * theirs.abs()
}

#[test]
fn medians_shifts_and_intervals_agree_with_a_reference_implementation() {
    let samples = reference().samples;
    assert_eq!(samples.len(), 7);
    for figures in samples {
        let n = figures.values.len();
        let sample = Sample::new(figures.values.iter().copied()).unwrap();
        assert!(close(sample.median(), figures.median), "median of {n}");
        let shift = hodges_lehmann(&sample);
        assert!(close(shift, figures.hodges_lehmann), "{shift} of {n}, {}", figures.hodges_lehmann);
        assert!((spread(&sample) / figures.spread - 1.0).abs() < 1e-9, "spread of {n}");
        match (interval(&sample), figures.interval) {
            (Some(ours), Some(theirs)) => {
                assert!(close(ours.low, theirs.low) && close(ours.high, theirs.high), "{ours:?} of {n}");
                assert!(close(ours.level, theirs.level), "{ours:?} of {n}");
            }
            (ours, theirs) => assert!(ours.is_none() && theirs.is_none(), "interval of {n}"),
        }
    }
}

#[test]
fn slopes_agree_with_a_reference_implementation() {
    for line in reference().lines {
        let points: Vec<(f64, f64)> = line.x.iter().copied().zip(line.y.iter().copied()).collect();
        let slope = theil_sen(&points).unwrap();
        assert!((slope / line.slope - 1.0).abs() < 1e-9, "{slope}, {}", line.slope);
    }
}
