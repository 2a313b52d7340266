//! Plots of what was measured, as SVG without scripts or fonts of their own.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::{Figures, Kind};

const WIDTH: usize = 720;
const BAR: usize = 22;
const GAP: usize = 8;
const LEFT: usize = 190;
const RIGHT: usize = 110;
const TOP: usize = 46;

type Scene<'a> = (&'a str, Vec<(Kind, String, Figures)>);

/// One file for CPU and one for latency of each scene.
pub(super) fn draw(folder: &Path, scenes: &[Scene<'_>]) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    for (name, figures) in scenes {
        let cpu = figures.iter().map(|(kind, side, f)| Bar {
            side,
            is_ours: *kind == Kind::Moat,
            parts: vec![f.user_us, f.system_us],
        });
        let title = format!("{name}: CPU a call in µs (dark: user mode, light: kernel)");
        write(
            folder,
            &format!("e2e-{}-cpu.svg", slug(name)),
            &bars(&title, &cpu.collect::<Vec<_>>()),
        )?;
        let p99 = figures.iter().map(|(kind, side, f)| Bar {
            side,
            is_ours: *kind == Kind::Moat,
            parts: vec![f.p50_ms, (f.p99_ms - f.p50_ms).max(0.0)],
        });
        let title = format!("{name}: latency in ms (dark: p50, whole: p99)");
        write(
            folder,
            &format!("e2e-{}-latency.svg", slug(name)),
            &bars(&title, &p99.collect::<Vec<_>>()),
        )?;
    }
    Ok(())
}

fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    fs::write(&path, text).with_context(|| path.display().to_string())
}

/// A name for a file.
fn slug(name: &str) -> String {
    let lower = name.to_lowercase();
    let words = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}

struct Bar<'a> {
    side: &'a str,
    is_ours: bool,
    parts: Vec<f64>,
}

fn bars(title: &str, bars: &[Bar<'_>]) -> String {
    let most = bars.iter().map(|bar| bar.parts.iter().sum()).fold(0.0, f64::max).max(1e-9);
    let scale = (WIDTH - LEFT - RIGHT) as f64 / most;
    let height = TOP + bars.len() * (BAR + GAP) + GAP;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\" role=\"img\">\n<title>{0}</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"12\" y=\"26\" font-weight=\"bold\">{0}</text>\n",
        escaped(title)
    );
    for (at, bar) in bars.iter().enumerate() {
        let y = TOP + at * (BAR + GAP);
        let colours = if bar.is_ours { ["#1b5e9b", "#8fbce6"] } else { ["#6b6b6b", "#c4c4c4"] };
        let (mut x, whole) = (LEFT as f64, bar.parts.iter().sum::<f64>());
        for (part, colour) in bar.parts.iter().zip(colours) {
            let width = part * scale;
            let _ = writeln!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>"
            );
            x += width;
        }
        let base = y + BAR - 6;
        let _ = writeln!(
            svg,
            "<text x=\"{0}\" y=\"{base}\" text-anchor=\"end\">{1}</text>\n<text x=\"{2:.1}\" y=\"{base}\">{whole:.2}</text>",
            LEFT - 8,
            escaped(bar.side),
            x + 6.0,
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_fills_the_width_and_texts_are_escaped() {
        let list = [
            Bar { side: "a<b", is_ours: true, parts: vec![1.0, 1.0] },
            Bar { side: "c", is_ours: false, parts: vec![3.0, 1.0] },
        ];
        let svg = bars("x & y", &list);
        assert!(svg.contains("a&lt;b") && svg.contains("x &amp; y"));
        let full = (WIDTH - LEFT - RIGHT) as f64;
        assert!(svg.contains(&format!("width=\"{:.1}\"", full * 0.75)), "{svg}");
        assert_eq!(svg.matches("<rect x=").count(), 4);
        assert_eq!(slug("HTTP/1.1 kept"), "http-1-1-kept");
    }
}
