//! A heat map as SVG: seconds from left to right, durations from bottom to top, the more calls the
//! darker.

use std::fmt::Write;

use moat_kernel::latency::report::Heat;

use super::time;

const CELL_WIDTH: usize = 16;
const CELL_HEIGHT: usize = 16;
const LEFT: usize = 90;

/// The map.
pub(super) fn svg(heat: &Heat) -> String {
    let (rows, columns) = (heat.rows_us.len(), heat.columns.len());
    let (width, height) = (LEFT + columns * CELL_WIDTH, (rows + 1) * CELL_HEIGHT);
    let most = heat.columns.iter().flatten().copied().max().unwrap_or(0);
    let mut svg = String::new();
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"monospace\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>"
    );
    for (row, us) in heat.rows_us.iter().enumerate() {
        let y = (rows - row) * CELL_HEIGHT - 4;
        let _ = writeln!(svg, "<text x=\"4\" y=\"{y}\">{}</text>", time(*us));
    }
    for (column, counts) in heat.columns.iter().enumerate() {
        for (row, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let (x, y) = (LEFT + column * CELL_WIDTH, rows.saturating_sub(row + 1) * CELL_HEIGHT);
            let light = lightness(*count, most);
            let from = heat.rows_us.get(row).copied().unwrap_or(0);
            let _ = writeln!(
                svg,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{CELL_WIDTH}\" height=\"{CELL_HEIGHT}\" \
                 fill=\"hsl(15, 85%, {light}%)\"><title>{count} calls from {} on</title></rect>",
                time(from)
            );
        }
    }
    let _ = writeln!(svg, "<text x=\"{LEFT}\" y=\"{}\">{columns} seconds</text>", height - 4);
    svg.push_str("</svg>\n");
    svg
}

/// By the logarithm, so that one call in thousands is seen too.
fn lightness(count: u32, most: u32) -> u32 {
    let log = |count: u32| count.checked_ilog2().map_or(0, |log| log + 1);
    90 - 60 * log(count) / log(most).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slow_call_among_many_has_its_cell() {
        let heat =
            Heat { rows_us: vec![0, 64, 128], columns: vec![vec![0, 5_000, 0], vec![0, 0, 1]] };
        let svg = svg(&heat);
        assert!(svg.contains("<title>1 calls from 128 us on</title>"), "{svg}");
        assert!(svg.contains("<title>5000 calls from 64 us on</title>"), "{svg}");
        assert_eq!(svg.matches("<title>").count(), 2);
        assert!(lightness(1, 5_000) > lightness(5_000, 5_000));
        assert!(super::svg(&Heat::default()).ends_with("</svg>\n"));
    }
}
