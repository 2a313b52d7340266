//! Products of scalars and points, and sums of any two points.

#![expect(clippy::indexing_slicing, reason = "1 to 16 into a table of 16")]

use super::curve::{Affine, Jacobian};
use super::field::Fe;
use super::scalar::{Digit, Scalar};
use super::table;
use crate::cpu::Cpu;
use crate::ct;

/// A point to be added often, with the square and the cube of its Z.
#[derive(Clone, Copy)]
struct Cached {
    point: Jacobian,
    zz: Fe,
    zzz: Fe,
}

/// Bits of a window of [`Jacobian::multiply`], and how many there are.
const WIDTH: u32 = 5;
const WINDOWS: u32 = 256 / WIDTH + 1;
/// Multiples at hand: one to 2^(WIDTH - 1).
const MULTIPLES: usize = 1 << (WIDTH - 1);

impl Affine {
    /// With the sign of a digit.
    #[inline(always)]
    fn signed(self, digit: Digit) -> Self {
        Self { x: self.x, y: Fe::select(digit.negative, self.y, self.y.neg()) }
    }
}

impl Jacobian {
    #[inline(always)]
    fn select(mask: u64, this: Self, other: Self) -> Self {
        Self {
            x: Fe::select(mask, this.x, other.x),
            y: Fe::select(mask, this.y, other.y),
            z: Fe::select(mask, this.z, other.z),
        }
    }

    /// The sum, and the differences by which to tell whether the points were equal.
    #[inline(always)]
    const fn add_cached_unequal(self, other: &Cached) -> (Self, Fe, Fe) {
        let zz = self.z.square();
        let u = self.x.mul(other.zz);
        let s = self.y.mul(other.zzz);
        let h = other.point.x.mul(zz).sub(u);
        let r = other.point.y.mul(zz.mul(self.z)).sub(s);
        (Self::sum(u, s, h, r, self.z.mul(other.point.z)), h, r)
    }

    /// The sum for public points: every case, by branches.
    pub(super) fn add_affine_vartime(self, other: Affine) -> Self {
        self.add_vartime(&Cached::new(other.to_jacobian()))
    }

    fn add_vartime(self, other: &Cached) -> Self {
        if self.is_infinity() {
            return other.point;
        }
        if other.point.is_infinity() {
            return self;
        }
        let (sum, h, r) = self.add_cached_unequal(other);
        match (h.is_zero() != 0, r.is_zero() != 0) {
            (true, true) => self.double(),
            (true, false) => Self::INFINITY,
            _ => sum,
        }
    }

    /// `scalar G`, the same time for every scalar.
    ///
    /// Additions never meet equal points: the sum of the windows below window i is at most
    /// 0.51 * 2^(7 i) in magnitude, so it is no digit of that window but zero. It is not one modulo
    /// n either: that takes a scalar of n or more.
    pub(super) fn multiply_base(cpu: Cpu, scalar: &Scalar) -> Self {
        let mut sum = Self::INFINITY;
        for (index, window) in (0..).zip(&table::WINDOWS) {
            let digit = scalar.digit(index, table::WIDTH);
            let other = table::select(cpu, window, digit.magnitude).signed(digit);
            let next = sum.add_affine_unequal(other);
            let next = Self::select(sum.z.is_zero(), next, other.to_jacobian());
            sum = Self::select(ct::is_zero(digit.magnitude), next, sum);
        }
        sum
    }

    /// `scalar point` for 0 < scalar < n, the same time for every scalar.
    ///
    /// Only the last addition may meet equal points: before it, the sum is 32 times a part of the
    /// scalar, which is no digit; at the end it may be one modulo n.
    pub(super) fn multiply(point: Affine, scalar: &Scalar) -> Self {
        let multiples = multiples(point);
        let mut sum = Self::INFINITY;
        for index in (0..WINDOWS).rev() {
            for _ in 0..WIDTH {
                sum = sum.double();
            }
            let digit = scalar.digit(index, WIDTH);
            let mut other = multiples[0];
            for (magnitude, multiple) in (1..).zip(&multiples) {
                let mask = ct::is_zero(magnitude ^ digit.magnitude);
                other = Cached::select(mask, &other, multiple);
            }
            let y = other.point.y;
            other.point.y = Fe::select(digit.negative, y, y.neg());
            let (mut next, h, r) = sum.add_cached_unequal(&other);
            if index == 0 {
                let is_equal = h.is_zero() & r.is_zero();
                next = Self::select(is_equal, next, sum.double());
            }
            let next = Self::select(sum.z.is_zero(), next, other.point);
            sum = Self::select(ct::is_zero(digit.magnitude), next, sum);
        }
        sum
    }

    /// `a G + b point` for public values: the time depends on them.
    pub(super) fn multiply_both_vartime(a: &Scalar, b: &Scalar, point: Affine) -> Self {
        let odd = odd_multiples(point);
        let mut sum = Self::INFINITY;
        for digit in b.naf_vartime().into_iter().rev() {
            sum = sum.double();
            if digit != 0 {
                let mut other = odd[usize::from(digit.unsigned_abs() / 2)];
                if digit < 0 {
                    other.point.y = other.point.y.neg();
                }
                sum = sum.add_vartime(&other);
            }
        }
        for (index, window) in (0..).zip(&table::WINDOWS) {
            let digit = a.digit(index, table::WIDTH);
            if digit.magnitude > 0 {
                let at = digit.magnitude - 1;
                let other = usize::try_from(at).ok().and_then(|at| window.get(at));
                if let Some(other) = other {
                    sum = sum.add_affine_vartime(other.get().signed(digit));
                }
            }
        }
        sum
    }
}

impl Cached {
    const fn new(point: Jacobian) -> Self {
        let zz = point.z.square();
        Self { point, zz, zzz: zz.mul(point.z) }
    }

    #[inline(always)]
    fn select(mask: u64, this: &Self, other: &Self) -> Self {
        Self {
            point: Jacobian::select(mask, this.point, other.point),
            zz: Fe::select(mask, this.zz, other.zz),
            zzz: Fe::select(mask, this.zzz, other.zzz),
        }
    }
}

/// One to sixteen times the point, none of which is infinity.
fn multiples(point: Affine) -> [Cached; MULTIPLES] {
    let mut multiples = [Cached::new(point.to_jacobian()); MULTIPLES];
    for i in 1..MULTIPLES {
        let next = if i % 2 == 1 {
            multiples[i / 2].point.double()
        } else {
            multiples[i - 1].point.add_affine_unequal(point)
        };
        multiples[i] = Cached::new(next);
    }
    multiples
}

/// One, three, five to fifteen times the point.
fn odd_multiples(point: Affine) -> [Cached; MULTIPLES / 2] {
    let mut odd = [Cached::new(point.to_jacobian()); MULTIPLES / 2];
    let twice = Cached::new(point.to_jacobian().double());
    for i in 1..MULTIPLES / 2 {
        odd[i] = Cached::new(odd[i - 1].point.add_cached_unequal(&twice).0);
    }
    odd
}
