//! A flame graph as SVG: below all slow calls, above each of their stages, above that its causes.
//! Width is time. A file of its own without scripts, so that it can be looked at anywhere.

use std::fmt::Write;

use moat_kernel::latency::report::{Path, Report};

use super::{percent, time};

const WIDTH: u64 = 1_200;
const ROW: u64 = 26;
/// Narrower than this, in pixels, nothing is written into a box.
const TEXT_MIN: u64 = 40;
/// Pixels of a letter.
const LETTER: u64 = 7;

/// The graph of a report's paths.
pub(super) fn svg(report: &Report) -> String {
    let all: u64 = report.paths.iter().map(|path| path.us).sum();
    let mut svg = String::new();
    let height = ROW * 4;
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"monospace\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>"
    );
    let title = format!("slow calls: {}, {}", report.slow, time(all));
    frame(&mut svg, &Frame { from: 0, us: all, all, level: 0, hue: 0 }, &title);
    let mut from = 0;
    for (at, stage) in (0..).zip(stages(&report.paths)) {
        let own = || report.paths.iter().filter(|path| path.stage == stage);
        let us = own().map(|path| path.us).sum();
        let hue = 30 + at * 31;
        frame(&mut svg, &Frame { from, us, all, level: 1, hue }, stage);
        let mut inner = from;
        for path in own() {
            let Path { cause, us, .. } = path;
            frame(&mut svg, &Frame { from: inner, us: *us, all, level: 2, hue }, cause);
            inner += us;
        }
        from += us;
    }
    svg.push_str("</svg>\n");
    svg
}

/// Stages in the order of their longest path, each once.
fn stages(paths: &[Path]) -> Vec<&str> {
    let mut stages: Vec<&str> = Vec::new();
    for path in paths {
        if !stages.contains(&path.stage.as_str()) {
            stages.push(&path.stage);
        }
    }
    stages
}

/// A box: where it begins and how wide it is, in microseconds of `all`.
struct Frame {
    from: u64,
    us: u64,
    all: u64,
    level: u64,
    hue: u64,
}

fn frame(svg: &mut String, frame: &Frame, name: &str) {
    let Frame { from, us, all, level, hue } = *frame;
    let (x, width) = (pixels(from, all), pixels(us, all));
    // The lowest row is the whole.
    let y = ROW * (2 - level.min(2)) + ROW / 2;
    let (light, name) = (62 + level * 9, escaped(name));
    let share = percent(us, all);
    let _ = writeln!(
        svg,
        "<g><title>{name}: {} ({share} %)</title><rect x=\"{x}\" y=\"{y}\" width=\"{width}\" \
         height=\"{}\" fill=\"hsl({}, 70%, {light}%)\" stroke=\"#fff\"/>",
        time(us),
        ROW - 1,
        hue % 360,
    );
    if width >= TEXT_MIN {
        let letters = usize::try_from(width / LETTER).unwrap_or(0);
        let text: String = name.chars().take(letters).collect();
        let _ = writeln!(svg, "<text x=\"{}\" y=\"{}\">{text}</text>", x + 3, y + 17);
    }
    svg.push_str("</g>\n");
}

fn pixels(us: u64, all: u64) -> u64 {
    u64::try_from(u128::from(us) * u128::from(WIDTH) / u128::from(all.max(1))).unwrap_or(WIDTH)
}

/// For text and attributes of XML.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(stage: &str, cause: &str, us: u64) -> Path {
        Path { stage: stage.into(), cause: cause.into(), calls: 1, us, exemplar: None }
    }

    #[test]
    fn every_path_has_a_box_as_wide_as_its_time_and_the_file_is_well_formed() {
        let paths = vec![
            path("upstream", "upstream", 6_000),
            path("audit_outcome", "disk", 3_000),
            path("upstream", "run_queue", 1_000),
            path("<b>", "a&b", 0),
        ];
        let svg = svg(&Report { slow: 3, paths, ..Report::default() });
        assert!(svg.contains("<title>disk: 3.0 ms (30 %)</title>"), "{svg}");
        assert!(svg.contains("<title>upstream: 7.0 ms (70 %)</title>"), "{svg}");
        assert!(svg.contains("width=\"840\""), "{svg}");
        assert!(svg.contains("&lt;b&gt;") && !svg.contains("<b>"), "{svg}");
        for tag in ["g", "svg", "title"] {
            let opened = svg.matches(&format!("<{tag}")).count();
            assert_eq!(opened, svg.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }
}
