//! Inputs out of a seed: valid ones with damage, and nonsense out of the words of a format.

use serde_json::Value;

/// The longest input in bytes.
pub(crate) const LONGEST: usize = 4096;

/// Random numbers; the same seed gives the same ones.
pub(crate) struct Lots(u64);

impl Lots {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `most`, which is at least 1.
    pub(crate) fn below(&mut self, most: usize) -> usize {
        (self.next() % most as u64) as usize
    }

    pub(crate) fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// Texts that have broken parsers before, in any format.
const NASTY: [&[u8]; 46] = [
    b"null",
    b"true",
    b"-0",
    b"0",
    b"-1",
    b"1e999",
    b"-1e-999",
    b"1e400000000",
    b"0.1e-2147483649",
    b"NaN",
    b"Infinity",
    b"255",
    b"65536",
    b"2147483647",
    b"2147483648",
    b"4294967295",
    b"4294967296",
    b"9007199254740993",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"18446744073709551615",
    b"18446744073709551616",
    b"340282366920938463463374607431768211456",
    b"99999999999999999999999999999999999999999999999999999999999999999999999999",
    b"\"\"",
    b"{}",
    b"[]",
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    b"{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":",
    b"((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((",
    b"\\u0000",
    b"\\ud800",
    b"\\udc00\\ud800",
    b"\\uD83D\\uDE00",
    b"\0",
    b"\xff",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xef\xbb\xbf",
    "\u{202e}\u{2066}\u{200f}".as_bytes(),
    "e\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}".as_bytes(),
    b"\r\n",
    b"\n",
    b"\x1b[2J\x1b]52;c;AAAA\x07",
    b"\"",
];

/// Valid inputs of a format, and the words it is made of.
pub(crate) struct Corpus {
    pub(crate) valid: Vec<Vec<u8>>,
    pub(crate) words: &'static [&'static str],
    /// Whether valid inputs are lines of JSON, which are also damaged as values.
    pub(crate) json: bool,
}

impl Corpus {
    /// Texts as they stand.
    pub(crate) fn of(valid: &[&str], words: &'static [&'static str]) -> Self {
        Self {
            valid: valid.iter().map(|text| text.as_bytes().to_vec()).collect(),
            words,
            json: false,
        }
    }

    /// Lines of JSON.
    pub(crate) fn json(valid: Vec<String>, words: &'static [&'static str]) -> Self {
        Self {
            valid: valid.into_iter().map(String::into_bytes).collect(),
            words,
            json: true,
        }
    }

    /// The input of a seed.
    pub(crate) fn input(&self, seed: u64) -> Vec<u8> {
        let mut lots = Lots::new(seed);
        let mut input = match lots.below(20) {
            0 => self.noise(&mut lots),
            1 | 2 => self.soup(&mut lots),
            3 => lots.one(&self.valid).clone(),
            4..=10 if self.json => self.revalued(&mut lots),
            _ => {
                let mut input = lots.one(&self.valid).clone();
                for _ in 0..1 + lots.below(5) {
                    self.damage(&mut input, &mut lots);
                }
                input
            }
        };
        input.truncate(LONGEST);
        input
    }

    fn noise(&self, lots: &mut Lots) -> Vec<u8> {
        let length = lots.below(80);
        (0..length).map(|_| lots.next() as u8).collect()
    }

    /// Words of the format in any order, some of them over and over.
    fn soup(&self, lots: &mut Lots) -> Vec<u8> {
        let mut soup = Vec::new();
        for _ in 0..1 + lots.below(40) {
            let word = self.word(lots);
            let times = match lots.below(12) {
                0 => 1 + lots.below(400),
                _ => 1,
            };
            for _ in 0..times {
                soup.extend_from_slice(&word);
            }
            if soup.len() > LONGEST {
                break;
            }
        }
        soup
    }

    fn word(&self, lots: &mut Lots) -> Vec<u8> {
        match self.words.is_empty() || lots.below(4) == 0 {
            true => lots.one(&NASTY).to_vec(),
            false => lots.one(self.words).as_bytes().to_vec(),
        }
    }

    fn damage(&self, input: &mut Vec<u8>, lots: &mut Lots) {
        let at = lots.below(input.len() + 1);
        let end = (at + 1 + lots.below(24)).min(input.len());
        match lots.below(11) {
            0 if at < input.len() => input[at] ^= 1 << lots.below(8),
            1 if at < input.len() => input[at] = lots.next() as u8,
            2 => input.truncate(at),
            3 => drop(input.drain(at..end)),
            4 => {
                let again = input[at..end].to_vec();
                let times = 1 + lots.below(8);
                input.splice(at..at, again.repeat(times));
            }
            5 => {
                let other = lots.one(&self.valid);
                let from = lots.below(other.len() + 1);
                let to = (from + lots.below(200)).min(other.len());
                input.splice(at..end, other[from..to].iter().copied());
            }
            6 => self.renumber(input, lots),
            7 => {
                // A line more or less.
                let lines: Vec<Vec<u8>> =
                    input.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
                let line = lots.below(lines.len());
                let mut lines = lines;
                match lots.below(2) {
                    0 => drop(lines.remove(line)),
                    _ => lines.insert(line, lines[line].clone()),
                }
                *input = lines.join(&b'\n');
            }
            8 => {
                let word = self.word(lots);
                input.splice(at..end, word);
            }
            _ => {
                let word = self.word(lots);
                input.splice(at..at, word);
            }
        }
    }

    /// Another number in the place of one.
    fn renumber(&self, input: &mut Vec<u8>, lots: &mut Lots) {
        let starts: Vec<usize> = (0..input.len())
            .filter(|at| {
                input[*at].is_ascii_digit() && (*at == 0 || !input[at - 1].is_ascii_digit())
            })
            .collect();
        if starts.is_empty() {
            return;
        }
        let at = *lots.one(&starts);
        let length = input[at..]
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count();
        let number = *lots.one(&NASTY[2..24]);
        input.splice(at..at + length, number.iter().copied());
    }

    /// Valid JSON with other values in it: what gets past a parser.
    fn revalued(&self, lots: &mut Lots) -> Vec<u8> {
        let text = lots.one(&self.valid).clone();
        let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec);
        let mut lines: Vec<Vec<u8>> = lines.collect();
        let line = lots.below(lines.len());
        if let Ok(mut value) = serde_json::from_slice::<Value>(&lines[line]) {
            for _ in 0..1 + lots.below(3) {
                let nodes = count(&value);
                let mut at = lots.below(nodes);
                change(&mut value, &mut at, self, lots);
            }
            lines[line] = value.to_string().into_bytes();
        }
        lines.join(&b'\n')
    }
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(count).sum(),
        Value::Object(object) => object.values().map(count).sum(),
        _ => 0,
    }
}

/// Changes the node that stands at `at` in depth-first order.
fn change(value: &mut Value, at: &mut usize, corpus: &Corpus, lots: &mut Lots) -> bool {
    if *at == 0 {
        *value = other(value, corpus, lots);
        return true;
    }
    *at -= 1;
    match value {
        Value::Array(list) => list.iter_mut().any(|one| change(one, at, corpus, lots)),
        Value::Object(object) => object.values_mut().any(|one| change(one, at, corpus, lots)),
        _ => false,
    }
}

fn other(value: &Value, corpus: &Corpus, lots: &mut Lots) -> Value {
    match (lots.below(10), value) {
        (0 | 1, Value::Array(list)) if !list.is_empty() => {
            let mut list = list.clone();
            let at = lots.below(list.len());
            match lots.below(3) {
                0 => drop(list.remove(at)),
                1 => list.push(list[at].clone()),
                _ => list = vec![list[at].clone(); 1 + lots.below(60)],
            }
            list.into()
        }
        (0 | 1, Value::Object(object)) if !object.is_empty() => {
            let mut object = object.clone();
            let keys: Vec<String> = object.keys().cloned().collect();
            let key = lots.one(&keys);
            match lots.below(3) {
                0 => drop(object.remove(key)),
                1 => {
                    let value = object[key].clone();
                    let word = String::from_utf8_lossy(&corpus.word(lots)).into_owned();
                    object.insert(word, value);
                }
                _ => {
                    let value = object[lots.one(&keys)].clone();
                    object.insert(key.clone(), value);
                }
            }
            object.into()
        }
        (0..=4, Value::Number(_)) => {
            let number = *lots.one(&NASTY[2..24]);
            serde_json::from_slice(number).unwrap_or_else(|_| Value::from(-1))
        }
        (0..=4, Value::String(text)) => {
            let mut bytes = text.clone().into_bytes();
            for _ in 0..1 + lots.below(3) {
                corpus.damage(&mut bytes, lots);
            }
            String::from_utf8_lossy(&bytes).into_owned().into()
        }
        (5, _) => Value::Null,
        (6, _) => {
            // Deeper than anyone means it.
            let depth = 1 + lots.below(90);
            (0..depth).fold(value.clone(), |inner, _| Value::Array(vec![inner]))
        }
        (7, _) => serde_json::from_slice(&corpus.word(lots)).unwrap_or(Value::Bool(true)),
        _ => String::from_utf8_lossy(&corpus.word(lots))
            .into_owned()
            .into(),
    }
}
