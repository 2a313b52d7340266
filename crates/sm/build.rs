//! Makes the table of multiples of SM2's base point, with the crate's own arithmetic, as Rust
//! source: 37 windows of seven bits, in each one to 64 times 2^(7 w) G. A test of the crate works
//! every entry out again in another way.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, io};

#[path = "src/sm2/curve.rs"]
#[allow(dead_code, unreachable_pub, unfulfilled_lint_expectations, reason = "a part of the crate")]
mod curve;
#[path = "src/sm2/field.rs"]
#[allow(dead_code, unreachable_pub, unfulfilled_lint_expectations, reason = "a part of the crate")]
mod field;
#[path = "src/sm2/limb.rs"]
#[allow(dead_code, unreachable_pub, unfulfilled_lint_expectations, reason = "a part of the crate")]
mod limb;

use curve::{Affine, G};
use field::Fe;

/// Windows in 256 bits and a carry, and entries of a window; src/sm2/table.rs has the same.
const COUNT: usize = 37;
const ENTRIES: usize = 64;

fn main() -> io::Result<()> {
    for file in ["build.rs", "src/sm2/curve.rs", "src/sm2/field.rs", "src/sm2/limb.rs"] {
        println!("cargo::rerun-if-changed={file}");
    }
    let mut text = "[".to_owned();
    let mut base = G;
    for _ in 0..COUNT {
        let window;
        (window, base) = build(base);
        text += "[";
        for Affine { x, y } in window {
            write!(text, "Entry([{:?},{:?}]),", x.raw(), y.raw()).map_err(io::Error::other)?;
        }
        text += "],\n";
    }
    text += "]\n";
    #[expect(clippy::disallowed_methods, reason = "how cargo tells a build script where to write")]
    let folder = env::var("OUT_DIR").map_err(io::Error::other)?;
    fs::write(Path::new(&folder).join("sm2_table.rs"), text)
}

/// The window for a base, and the base of the next.
fn build(base: Affine) -> (Vec<Affine>, Affine) {
    let mut points = vec![base.to_jacobian(), base.to_jacobian().double()];
    while let Some(last) = points.last()
        && points.len() < ENTRIES
    {
        points.push(last.add_affine_unequal(base));
    }
    let next = points.last().map_or(base, |last| last.double().to_affine());
    // One inversion for all: products of the Zs below each, and back.
    let mut products = Vec::with_capacity(ENTRIES);
    let mut product = Fe::ONE;
    for point in &points {
        products.push(product);
        product = product.mul(point.z);
    }
    let mut inverse = product.invert();
    let mut window = Vec::with_capacity(ENTRIES);
    for (point, below) in points.iter().zip(products).rev() {
        let z = inverse.mul(below);
        inverse = inverse.mul(point.z);
        let zz = z.square();
        window.push(Affine { x: point.x.mul(zz), y: point.y.mul(zz.mul(z)) });
    }
    window.reverse();
    (window, next)
}
