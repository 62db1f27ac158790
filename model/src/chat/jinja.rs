//! Jinja as transformers runs it.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State};

mod guard;
mod json;

pub(super) use guard::guarded;

/// The name the template has in its environment.
pub(super) const NAME: &str = "chat_template";

/// Steps that one rendering can take, and more for each byte of the messages: so many lots of 64 bytes
/// can it make, too. A long chat takes some thousands.
pub(super) const FUEL: u64 = 300_000;
/// Macros, blocks and loops inside of each other, by the interpreter's own count.
const NESTED: usize = 200;

/// An environment that holds `source` and behaves like transformers' Jinja: `trim_blocks`,
/// `lstrip_blocks`, Python's methods, `raise_exception`, `strftime_now`, `tojson` as `json.dumps`.
pub(super) fn environment(source: &str) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()?;
    let source = without_generation_tags(source);
    guard::check(&source, &syntax)?;
    environment.set_syntax(syntax);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(NESTED);
    // An error must not keep what the template has made.
    environment.set_debug(false);
    environment.set_formatter(|output, state, value| {
        pay(state, value, 0)?;
        minijinja::escape_formatter(output, state, value)
    });
    // They are for people who write templates, and their work is not counted.
    environment.remove_filter("pprint");
    environment.remove_global("debug");
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter("tojson", json::tojson);
    environment.add_filter("indent", indent);
    environment.add_template_owned(NAME, source)?;
    Ok(environment)
}

/// Takes fuel for all that a value writes: a list can hold the same list a thousand times.
fn pay(state: &State<'_, '_>, value: &Value, depth: usize) -> Result<(), Error> {
    if !matches!(
        value.kind(),
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map
    ) {
        return Ok(());
    }
    if depth > json::DEPTH_LIMIT {
        let problem = "a value that is nested too deeply is written out";
        return Err(Error::new(ErrorKind::InvalidOperation, problem));
    }
    for item in value.try_iter()? {
        state.consume_fuel(1)?;
        pay(state, &item, depth + 1)?;
        if value.kind() == ValueKind::Map {
            pay(state, &value.get_item(&item)?, depth + 1)?;
        }
    }
    Ok(())
}

fn raise_exception(message: String) -> Result<String, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// Most bytes of indentation in one text.
const MOST_INDENTATION: usize = 4 << 20;

/// Jinja's `indent`; minijinja's own drops a line break at the end.
fn indent(
    text: &str,
    width: Option<usize>,
    first: Option<bool>,
    blank: Option<bool>,
    arguments: Kwargs,
) -> Result<String, Error> {
    let width = width_within_limit(width.or(arguments.get("width")?).unwrap_or(4))?;
    let first = first.or(arguments.get("first")?).unwrap_or(false);
    let blank = blank.or(arguments.get("blank")?).unwrap_or(false);
    arguments.assert_all_used()?;
    // Fuel is taken for the result once it is there.
    let breaks = text.bytes().filter(|byte| *byte == b'\n').count();
    if breaks * width > MOST_INDENTATION {
        let problem = format!("{breaks} lines are more than are indented");
        return Err(Error::new(ErrorKind::InvalidOperation, problem));
    }
    let lines = text.split('\n').enumerate().map(|(index, line)| {
        let indented = if index == 0 {
            first
        } else {
            blank || !line.is_empty()
        };
        if indented {
            format!("{:width$}{line}", "")
        } else {
            line.to_owned()
        }
    });
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

/// Wider indentation than anyone writes is an attack on the memory.
fn width_within_limit(width: usize) -> Result<usize, Error> {
    if width > 100 {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            "more than 100 spaces of indentation",
        ));
    }
    Ok(width)
}

/// Templates that put a date into a prompt get this one, the day that Llama 3's own template falls
/// back to: a prompt must not depend on the clock.
fn strftime_now(format: &str) -> Result<String, Error> {
    let mut text = String::new();
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        text.push_str(match rest.next() {
            Some('d') => "26",
            Some('m') => "07",
            Some('b') => "Jul",
            Some('B') => "July",
            Some('y') => "24",
            Some('Y') => "2024",
            Some('a') => "Fri",
            Some('A') => "Friday",
            Some('H' | 'M' | 'S') => "00",
            Some('F') => "2024-07-26",
            Some('%') => "%",
            other => {
                let problem = format!("strftime_now knows no `%{}`", other.unwrap_or(' '));
                return Err(Error::new(ErrorKind::InvalidOperation, problem));
            }
        });
    }
    Ok(text)
}

/// `{% generation %}` marks the assistant's words for training masks and writes nothing. It becomes
/// a block that always runs, so that white space is cut the same way.
fn without_generation_tags(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        text.push_str(before);
        let Some(length) = tag[2..].find("%}") else {
            rest = tag;
            break;
        };
        let (inside, behind) = tag[2..].split_at(length);
        let word = inside.trim_matches(['-', '+']).trim();
        text.push_str("{%");
        match word {
            "generation" => text.push_str(&inside.replace(word, " if true ")),
            "endgeneration" => text.push_str(&inside.replace(word, " endif ")),
            _ => text.push_str(inside),
        }
        rest = behind;
    }
    text.push_str(rest);
    text
}
