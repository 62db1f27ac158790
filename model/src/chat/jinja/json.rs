//! The filter `tojson` as transformers defines it: Python's `json.dumps` without escaping for HTML
//! or of letters beyond ASCII.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

pub(super) fn tojson(
    state: &State<'_, '_>,
    value: &Value,
    arguments: Kwargs,
) -> Result<Value, Error> {
    let indent: Option<usize> = arguments.get("indent")?;
    let indent = indent.map(super::width_within_limit).transpose()?;
    let sort_keys = arguments.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    let ensure_ascii = arguments
        .get::<Option<bool>>("ensure_ascii")?
        .unwrap_or(false);
    if ensure_ascii {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            "tojson: ensure_ascii is not known",
        ));
    }
    let separators: Option<Vec<String>> = arguments.get("separators")?;
    arguments.assert_all_used()?;
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "tojson: two separators are needed",
            ));
        }
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    let mut writer = Writer {
        state,
        text: String::new(),
        paid: 0,
        indent,
        sort_keys,
        item,
        key,
    };
    writer.value(value, 0)?;
    Ok(Value::from_safe_string(writer.text))
}

struct Writer<'a> {
    state: &'a State<'a, 'a>,
    text: String,
    /// Bytes of the text that fuel was taken for.
    paid: usize,
    indent: Option<usize>,
    sort_keys: bool,
    item: String,
    key: String,
}

/// Deeper values are refused: they would overflow the stack.
pub(super) const DEPTH_LIMIT: usize = 100;

impl Writer<'_> {
    /// Takes fuel for each value and for what was written since.
    fn pay(&mut self) -> Result<(), Error> {
        let written = self.text.len() - self.paid;
        self.paid = self.text.len();
        self.state.consume_fuel(1 + written as u64 / 64)
    }

    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.pay()?;
        if depth > DEPTH_LIMIT {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "tojson: nested too deeply",
            ));
        }
        match value.kind() {
            ValueKind::None => self.text.push_str("null"),
            ValueKind::Bool => self
                .text
                .push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.text.push_str(&value.to_string()),
            ValueKind::String => self.string(&value.to_string())?,
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.group('[', ']', &items, depth, |writer, item| {
                    writer.value(item, depth + 1)
                })?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort();
                }
                self.group('{', '}', &keys, depth, |writer, key| {
                    writer.string(&key.to_string())?;
                    writer.text.push_str(&writer.key.clone());
                    writer.value(&value.get_item(key)?, depth + 1)
                })?;
            }
            other => {
                let problem = format!("tojson: a value of kind {other} has no JSON form");
                return Err(Error::new(ErrorKind::InvalidOperation, problem));
            }
        }
        Ok(())
    }

    fn group(
        &mut self,
        open: char,
        close: char,
        items: &[Value],
        depth: usize,
        mut each: impl FnMut(&mut Self, &Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.text.push(open);
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.text.push_str(&self.item.clone());
            }
            self.line(depth + 1);
            each(self, item)?;
        }
        if !items.is_empty() {
            self.line(depth);
        }
        self.text.push(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.text.push('\n');
            self.text.extend(std::iter::repeat_n(' ', indent * depth));
        }
    }

    fn string(&mut self, text: &str) -> Result<(), Error> {
        let quoted = serde_json::to_string(text)
            .map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))?;
        // Python escapes DEL and beyond only with ensure_ascii; serde_json does not either.
        self.text.push_str(&quoted);
        Ok(())
    }
}
