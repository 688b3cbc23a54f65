//! Plots as SVG, which are readable on light and dark pages.

use super::fleet::{INTERVAL, Scenario};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

/// The plot, and the margins for numbers around it, in pixels.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 44.0;
const TOP: f64 = 30.0;
/// Each point is the mean of so many seconds.
const STEP: u32 = 30;
const MINUTES_BETWEEN_TICKS: f64 = 30.0;

/// One line of a plot.
pub struct Line<'a> {
    pub name: &'a str,
    /// Arrivals of each second.
    pub seconds: &'a [u32],
}

const STYLE: &str = "<style>
text { font: 12px sans-serif; fill: #57606a }
.axis { stroke: #8c959f }
.grid { stroke: #8c959f; stroke-width: 0.5; stroke-dasharray: 2 4 }
.line { fill: none; stroke-width: 1.5; stroke-linejoin: round }
.line.a { stroke: #0969da } .line.b { stroke: #bc4c00 }
text.a { fill: #0969da } text.b { fill: #bc4c00 }
@media (prefers-color-scheme: dark) {
text { fill: #b1bac4 }
.line.a { stroke: #58a6ff } .line.b { stroke: #f0883e }
text.a { fill: #58a6ff } text.b { fill: #f0883e }
}
</style>
";

/// Writes a plot of two lines, from the boot to the end, as parts of the mean of heartbeats. The first line lies above.
pub fn draw(file: &Path, scenario: &Scenario, what: &str, lines: [Line; 2]) -> io::Result<()> {
    let mean = f64::from(scenario.hosts) / INTERVAL.as_secs_f64();
    let [first, second] = lines;
    let points = [&second, &first].map(|line| means(line.seconds, mean));
    let most = points.iter().flatten().copied().fold(1.0, f64::max);
    let axes = Axes {
        most: (most * 4.4).ceil() / 4.0,
        seconds: scenario.length.into(),
    };
    let mut svg = String::new();
    let (width, height) = (WIDTH + 2.0 * LEFT, HEIGHT + 2.0 * TOP);
    let size = format!("viewBox=\"0 0 {width} {height}\"");
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" {size} role=\"img\">"
    );
    let _ = writeln!(svg, "<title>{what}: {}</title>", scenario.name);
    svg += STYLE;
    axes.draw(&mut svg, &format!("{what} ÷ mean of heartbeats"));
    axes.line(&mut svg, "b", &points[0]);
    axes.line(&mut svg, "a", &points[1]);
    for (class, name, x) in [("a", first.name, 460.0), ("b", second.name, 640.0)] {
        let text = format!("<text class=\"{class}\" x=\"{x}\" y=\"18\">{name}</text>");
        let _ = writeln!(svg, "{text}");
    }
    svg += "</svg>\n";
    fs::write(file, svg)
}

/// Returns the mean of each step as a part of the mean of heartbeats.
fn means(seconds: &[u32], mean: f64) -> Vec<f64> {
    let steps = seconds.chunks_exact(STEP as usize);
    let totals = steps.map(|step| f64::from(step.iter().sum::<u32>()));
    totals.map(|total| total / f64::from(STEP) / mean).collect()
}

struct Axes {
    /// The value at the top.
    most: f64,
    /// The time at the right.
    seconds: f64,
}

impl Axes {
    fn x(&self, second: f64) -> f64 {
        LEFT + WIDTH * second / self.seconds
    }

    fn y(&self, value: f64) -> f64 {
        TOP + HEIGHT * (1.0 - value / self.most)
    }

    fn draw(&self, svg: &mut String, title: &str) {
        let _ = writeln!(svg, "<text x=\"{LEFT}\" y=\"18\">{title}</text>");
        for (class, value) in [("axis", 0.0), ("grid", 1.0), ("grid", self.most)] {
            let y = self.y(value);
            let line = format!("<path class=\"{class}\" d=\"M{LEFT} {y:.1}h{WIDTH}\"/>");
            let number = format!("<text x=\"8\" y=\"{:.1}\">{value:.2}</text>", y + 4.0);
            let _ = writeln!(svg, "{line}{number}");
        }
        let y = self.y(0.0) + 18.0;
        let mut minutes = 0.0;
        while minutes * 60.0 <= self.seconds {
            let x = self.x(minutes * 60.0);
            let at = format!("x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\"");
            let _ = writeln!(svg, "<text {at}>{minutes} min</text>");
            minutes += MINUTES_BETWEEN_TICKS;
        }
    }

    fn line(&self, svg: &mut String, class: &str, points: &[f64]) {
        let _ = write!(svg, "<path class=\"line {class}\" d=\"M");
        let mut second = f64::from(STEP) / 2.0;
        for value in points {
            let _ = write!(svg, "{:.1} {:.1} ", self.x(second), self.y(*value));
            second += f64::from(STEP);
        }
        svg.truncate(svg.trim_end().len());
        *svg += "\"/>\n";
    }
}
