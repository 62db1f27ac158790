//! How the same thing is written: commands and signs of mathematics, and words for numbers.

/// Whether a character stands beside others in a word: letters of scripts that have blanks, without
/// those that mathematics uses one by one.
pub(super) fn in_words(character: char) -> bool {
    let ideographic = matches!(character, '\u{2e80}'..='\u{9fff}' | '\u{f900}'..='\u{faff}');
    character.is_alphabetic() && !ideographic && SIGNS.iter().all(|(sign, _)| *sign != character)
}

/// Stands between groups of digits while a number is read.
pub(super) const SEPARATED: char = '_';

/// Words for numbers, by value.
pub(super) const NUMBERS: [&str; 13] = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve",
];

/// Commands that say how something looks, or whose sign is left out as well.
pub(super) const SILENT: &[&str] = &[
    "left",
    "right",
    "big",
    "bigg",
    "bigl",
    "bigr",
    "biggl",
    "biggr",
    "displaystyle",
    "textstyle",
    "limits",
    "nolimits",
    "text",
    "textbf",
    "textit",
    "textrm",
    "textsf",
    "texttt",
    "textnormal",
    "mbox",
    "hbox",
    "mathrm",
    "mathbf",
    "mathit",
    "mathsf",
    "mathbb",
    "mathcal",
    "mathfrak",
    "operatorname",
    "rm",
    "bf",
    "it",
    "emph",
    "underline",
    "boldsymbol",
    "bm",
    "ensuremath",
    "quad",
    "qquad",
    "hspace",
    "vspace",
    "phantom",
    "label",
    "tag",
    "nonumber",
    "noindent",
    "par",
    "item",
    "cdot",
    "times",
    "ast",
    "star",
    "pm",
    "mp",
    "equiv",
    "approx",
    "sim",
    "cdots",
    "ldots",
    "dots",
    "dotsc",
    "dotsb",
    "vdots",
    "ddots",
    "circ",
    "degree",
    "langle",
    "rangle",
    "colon",
    "prime",
    "not",
    "hfill",
    "hline",
    "displaylimits",
];

/// Commands that are bars.
pub(super) const BARS: &[&str] = &["lvert", "rvert", "vert", "lVert", "rVert", "Vert", "mid"];

/// Stands for "not equal".
pub(super) const UNEQUAL: char = '\u{2260}';
/// Commands of comparisons, with their signs.
pub(super) const COMPARISONS: [(&[&str], char); 5] = [
    (&["lt"], '<'),
    (&["gt"], '>'),
    (&["le", "leq", "leqslant"], or_equal('<')),
    (&["ge", "geq", "geqslant"], or_equal('>')),
    (&["ne", "neq"], UNEQUAL),
];

/// The sign of a comparison that lets both be equal.
pub(super) const fn or_equal(strict: char) -> char {
    match strict {
        '<' => '\u{2264}',
        _ => '\u{2265}',
    }
}

/// Commands of fractions.
pub(super) const FRACTIONS: &[&str] = &["frac", "dfrac", "tfrac", "cfrac"];

/// Commands with several names, or with a sign of their own.
pub(super) const SAME: &[(&str, &str)] = &[
    ("binom", "choose"),
    ("dbinom", "choose"),
    ("tbinom", "choose"),
    ("varphi", "phi"),
    ("varepsilon", "epsilon"),
    ("vartheta", "theta"),
    ("pmod", "mod"),
    ("bmod", "mod"),
    ("to", "rightarrow"),
    ("setminus", "backslash"),
];

/// Signs that stand for a command.
pub(super) const SIGNS: &[(char, &str)] = &[
    ('\u{221a}', "sqrt"),
    ('\u{2211}', "sum"),
    ('\u{220f}', "prod"),
    ('\u{222b}', "int"),
    ('\u{221e}', "infty"),
    ('\u{230a}', "lfloor"),
    ('\u{230b}', "rfloor"),
    ('\u{2308}', "lceil"),
    ('\u{2309}', "rceil"),
    ('\u{2208}', "in"),
    ('\u{2229}', "cap"),
    ('\u{222a}', "cup"),
    ('\u{2282}', "subset"),
    ('\u{2220}', "angle"),
    ('\u{25b3}', "triangle"),
    ('\u{2192}', "rightarrow"),
    ('\u{22a5}', "perp"),
    ('\u{2225}', "parallel"),
    ('\u{03d5}', "phi"),
    ('\u{03f5}', "epsilon"),
    ('\u{03b1}', "alpha"),
    ('\u{03b2}', "beta"),
    ('\u{03b3}', "gamma"),
    ('\u{03b4}', "delta"),
    ('\u{03b5}', "epsilon"),
    ('\u{03b6}', "zeta"),
    ('\u{03b7}', "eta"),
    ('\u{03b8}', "theta"),
    ('\u{03b9}', "iota"),
    ('\u{03ba}', "kappa"),
    ('\u{03bb}', "lambda"),
    ('\u{03bc}', "mu"),
    ('\u{03bd}', "nu"),
    ('\u{03be}', "xi"),
    ('\u{03bf}', "omicron"),
    ('\u{03c0}', "pi"),
    ('\u{03c1}', "rho"),
    ('\u{03c2}', "sigma"),
    ('\u{03c3}', "sigma"),
    ('\u{03c4}', "tau"),
    ('\u{03c5}', "upsilon"),
    ('\u{03c6}', "phi"),
    ('\u{03c7}', "chi"),
    ('\u{03c8}', "psi"),
    ('\u{03c9}', "omega"),
];
