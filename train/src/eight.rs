//! Numbers in 8 bits: running means of gradients and of their squares, block by block.
//!
//! Source: Dettmers, Lewis, Shleifer, Zettlemoyer, "8-bit Optimizers via Block-wise Quantization"
//! (arXiv 2110.02861), and what `bitsandbytes` made of it: blocks of 256 numbers, each with the
//! largest of them as its scale, and a code that is fine near 1 and reaches seven decades down.
//! The code is spelled differently here: a decade's upper end is one of its numbers, so that the
//! largest number of a block is exact; and no square becomes 0, because a step divides by its root.

use std::ops::Range;
use std::sync::LazyLock;

/// Numbers with a scale of their own.
pub(crate) const BLOCK: usize = 256;

/// Parameters with fewer elements keep their moments in f32: norms, biases, small adapters.
const LEAST: usize = 4096;

/// Whether the moments of a parameter of so many elements are held in 8 bits.
pub(crate) fn is_coded(elements: usize) -> bool {
    elements >= LEAST
}

/// Bytes of one moment of a parameter of so many elements, with moments in 8 bits.
pub(crate) fn bytes(elements: u64) -> u64 {
    match is_coded(elements as usize) {
        true => elements + 4 * elements.div_ceil(BLOCK as u64),
        false => 4 * elements,
    }
}

/// What a code means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A sign and one of 128 sizes: means of gradients.
    Signed,
    /// One of 256 sizes: means of squares. Only 0 is 0.
    Square,
}

/// One number for each element of a parameter, in 8 bits.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Eight {
    pub(crate) meaning: Meaning,
    pub(crate) codes: Vec<u8>,
    /// The largest size in each block.
    pub(crate) scales: Vec<f32>,
}

impl Eight {
    /// `count` zeros.
    pub(crate) fn zeros(count: usize, meaning: Meaning) -> Self {
        Self {
            meaning,
            codes: vec![0; count],
            scales: vec![0.0; count.div_ceil(BLOCK)],
        }
    }

    /// Those of a range of elements, which begins with a block.
    pub(crate) fn part(&mut self, range: Range<usize>) -> EightPart<'_> {
        assert!(
            range.start.is_multiple_of(BLOCK),
            "a part is of whole blocks"
        );
        let blocks = range.start / BLOCK..range.end.div_ceil(BLOCK);
        EightPart {
            code: Code::of(self.meaning),
            codes: &mut self.codes[range],
            scales: &mut self.scales[blocks],
        }
    }
}

/// A stretch of numbers in 8 bits, in whole blocks but for its end.
pub(crate) struct EightPart<'a> {
    pub(crate) code: &'static Code,
    pub(crate) codes: &'a mut [u8],
    pub(crate) scales: &'a mut [f32],
}

/// A code: sizes from 0 to 1 in rising order, and how to find the nearest.
///
/// Both ways are loops without branches and without tables to look up, but for reading, so that processors take
/// eight or sixteen numbers at a time.
pub(crate) struct Code {
    /// What each byte stands for, in shares of a block's scale.
    values: [f32; 1 << 8],
    decades: Decades,
    is_signed: bool,
}

/// By decades: sizes from the upper end of the one before to that of this one lie at equal distances.
#[derive(Clone, Copy)]
struct Decades {
    /// The size before the first one of each.
    above: [f32; DECADES],
    /// The code of that.
    code: [u32; DECADES],
    /// One by the distance between two sizes.
    per_size: [f32; DECADES],
}

const DECADES: usize = 7;

static SIGNED: LazyLock<Code> = LazyLock::new(|| Code::new(Meaning::Signed));
static SQUARE: LazyLock<Code> = LazyLock::new(|| Code::new(Meaning::Square));

const SIGN: u8 = 0x80;

impl Code {
    pub(crate) fn of(meaning: Meaning) -> &'static Self {
        match meaning {
            Meaning::Signed => &SIGNED,
            Meaning::Square => &SQUARE,
        }
    }

    fn new(meaning: Meaning) -> Self {
        // From the highest decade down each has half as many sizes: 64, or 128 without a sign.
        let is_signed = meaning == Meaning::Signed;
        let mut sizes = vec![0.0];
        if !is_signed {
            sizes.push(1e-7);
        }
        let mut decades = Decades {
            above: [0.0; DECADES],
            code: [0; DECADES],
            per_size: [0.0; DECADES],
        };
        for decade in 0..DECADES {
            let count = (if is_signed { 1 } else { 2 }) << decade;
            let top = 10_f64.powi(decade as i32 - 6);
            let size = |step: i32| top * (0.1 + 0.9 * f64::from(step) / f64::from(count));
            let above = sizes[sizes.len() - 1];
            decades.above[decade] = above;
            decades.code[decade] = sizes.len() as u32 - 1;
            decades.per_size[decade] = (f64::from(count) / (top - f64::from(above))) as f32;
            sizes.extend((1..=count).map(|step| size(step) as f32));
        }
        let mut values = [0.0; 1 << 8];
        for (code, size) in sizes.iter().enumerate() {
            values[code] = *size;
            if is_signed {
                values[code | usize::from(SIGN)] = -size;
            }
        }
        Self {
            values,
            decades,
            is_signed,
        }
    }

    /// The numbers of a block.
    #[inline(always)]
    pub(crate) fn read(&self, codes: &[u8], scale: f32, to: &mut [f32]) {
        for (to, code) in to.iter_mut().zip(codes) {
            *to = scale * self.values[usize::from(*code)];
        }
    }

    /// Writes a block of finite numbers, or of squares that may be infinite; returns its scale.
    #[inline(always)]
    pub(crate) fn write(&self, from: &[f32], codes: &mut [u8]) -> f32 {
        // Sizes have the order of their bits, and integers are compared many at a time.
        let bits = from.iter().map(|value| value.abs().to_bits());
        let most = f32::from_bits(bits.fold(0, u32::max));
        // What is infinite becomes the largest number there is.
        let scale = most.min(f32::MAX);
        if scale == 0.0 {
            codes.fill(0);
            return 0.0;
        }
        match self.is_signed {
            true => self.write_scaled::<true>(from, scale, codes),
            false => self.write_scaled::<false>(from, scale, codes),
        }
        scale
    }

    #[inline(always)]
    fn write_scaled<const IS_SIGNED: bool>(&self, from: &[f32], scale: f32, codes: &mut [u8]) {
        // Not through `self`: what is written could be it, as far as the compiler sees.
        let decades = self.decades;
        for (code, value) in codes.iter_mut().zip(from) {
            let nearest = decades.nearest::<IS_SIGNED>((value.abs() / scale).min(1.0)) as u8;
            let sign = (value.to_bits() >> 24) as u8 & SIGN;
            *code = nearest | if IS_SIGNED { sign } else { 0 };
        }
    }
}

impl Decades {
    /// The code of the size nearest to one from 0 to 1.
    #[inline(always)]
    fn nearest<const IS_SIGNED: bool>(&self, size: f32) -> u32 {
        // Adding 1.5 * 2^23 leaves the nearest integer in the low bits.
        const ROUND: f32 = 12_582_912.0;
        let (mut above, mut code, mut per_size) = (self.above[0], self.code[0], self.per_size[0]);
        if !IS_SIGNED && size <= above {
            // A square that is not 0 stays so.
            above = 0.0;
            code = u32::from(size > 0.0);
            per_size = 0.0;
        }
        for decade in 1..DECADES {
            if size > self.above[decade] {
                above = self.above[decade];
                code = self.code[decade];
                per_size = self.per_size[decade];
            }
        }
        let steps = (size - above) * per_size + ROUND;
        code.wrapping_add(steps.to_bits().wrapping_sub(ROUND.to_bits()))
    }
}

#[cfg(test)]
mod tests {
    use protocol::Stream;

    use super::*;

    /// The sizes of a code in rising order.
    fn sizes(meaning: Meaning) -> &'static [f32] {
        let values = &Code::of(meaning).values;
        match meaning {
            Meaning::Signed => &values[..1 << 7],
            Meaning::Square => values,
        }
    }

    fn nearest(meaning: Meaning, size: f32) -> usize {
        let decades = &Code::of(meaning).decades;
        let found = match meaning {
            Meaning::Signed => decades.nearest::<true>(size),
            Meaning::Square => decades.nearest::<false>(size),
        };
        found as usize
    }

    const MEANINGS: [Meaning; 2] = [Meaning::Signed, Meaning::Square];

    #[test]
    fn sizes_rise_from_0_to_1_and_fill_the_code() {
        for (meaning, count) in [(Meaning::Signed, 128), (Meaning::Square, 256)] {
            let sizes = sizes(meaning);
            assert_eq!(sizes.len(), count);
            assert!(sizes.is_sorted_by(|one, other| one < other));
            assert_eq!((sizes[0], sizes[count - 1]), (0.0, 1.0));
        }
    }

    #[test]
    fn the_nearest_size_is_found() {
        let stream = Stream::of_run(3);
        for meaning in MEANINGS {
            let known = sizes(meaning);
            let drawn = (0..20_000).map(|n| {
                let (size, decade) = (stream.uniform(2 * n), stream.uniform(2 * n + 1));
                (size * 10_f64.powf(-8.0 * decade)) as f32
            });
            // Sizes, and what lies on a border and next to it.
            let borders = known.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0);
            let near = borders.flat_map(|border| [border, border.next_down(), border.next_up()]);
            for size in drawn
                .chain(near)
                .chain(known.iter().copied())
                .chain([0.0, 1e-30, 1.0])
            {
                let size = size.max(0.0);
                let distance = |of: usize| (f64::from(known[of]) - f64::from(size)).abs();
                let least = (0..known.len()).map(distance).fold(1.0, f64::min);
                let found = nearest(meaning, size);
                let kept = meaning == Meaning::Square && size > 0.0;
                if kept && size < known[1] {
                    assert_eq!(found, 1, "{size} is not nothing");
                } else {
                    // Borders are rounded to f32.
                    let limit = least + 4e-7 * f64::from(size);
                    assert!(distance(found) <= limit, "{meaning:?} {size}");
                }
            }
        }
    }

    #[test]
    fn a_block_keeps_its_largest_number_and_is_near_in_all() {
        let stream = Stream::of_run(4);
        for meaning in MEANINGS {
            for count in [1, 17, BLOCK] {
                let draw = |n: usize| {
                    let draw = stream.uniform((count * 1000 + n) as u64) as f32 - 0.5;
                    match meaning {
                        Meaning::Signed => draw * 3e-5,
                        Meaning::Square => draw * draw * 1e-12,
                    }
                };
                let values: Vec<f32> = (0..count).map(draw).collect();
                let code = Code::of(meaning);
                let (mut codes, mut read) = (vec![0; count], vec![0.0; count]);
                let scale = code.write(&values, &mut codes);
                code.read(&codes, scale, &mut read);
                for (value, read) in values.iter().zip(&read) {
                    // Half of the widest step, or half of the lowest size.
                    let off = (value - read).abs();
                    assert!(off <= scale * 0.0071, "{value} {read}");
                    assert!(value.abs() < scale || value == read, "{value} {read}");
                    assert_eq!(value.signum(), read.signum(), "{value} {read}");
                }
                let mut again = vec![0; count];
                assert_eq!(code.write(&read, &mut again), scale);
                assert_eq!(again, codes);
            }
        }
    }

    #[test]
    fn blocks_at_the_ends_of_f32_are_written() {
        for (meaning, values, expected) in [
            (Meaning::Signed, vec![0.0, -0.0], vec![0.0, 0.0]),
            (Meaning::Signed, vec![-1e-45, 0.0], vec![-1e-45, 0.0]),
            (
                Meaning::Signed,
                vec![f32::MAX, -f32::MAX],
                vec![f32::MAX, -f32::MAX],
            ),
            (
                Meaning::Square,
                vec![f32::INFINITY, 0.0],
                vec![f32::MAX, 0.0],
            ),
            (Meaning::Square, vec![1e-38, 1e-45], vec![1e-38, 1e-45]),
        ] {
            let code = Code::of(meaning);
            let (mut codes, mut read) = ([0; 2], [0.0; 2]);
            let scale = code.write(&values, &mut codes);
            code.read(&codes, scale, &mut read);
            assert_eq!(read.to_vec(), expected, "{values:?}");
        }
    }

    #[test]
    fn bytes_are_those_that_are_held() {
        for count in [4095, 4096, 4097, 10 * BLOCK * BLOCK + 1] {
            let held = match is_coded(count) {
                true => {
                    let eight = Eight::zeros(count, Meaning::Signed);
                    eight.codes.len() + size_of_val(eight.scales.as_slice())
                }
                false => 4 * count,
            };
            assert_eq!(bytes(count as u64), held as u64);
        }
    }
}
