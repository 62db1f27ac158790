//! The keys that say how positions turn heads, in the layouts of transformers 4 and 5.

use serde_json::{Value, json};

use super::keys::{Keys, invalid, missing, needed, nothing_left, unsupported};
use super::{ConfigError, Llama3Scaling};

/// Base of the rotary frequencies and their scaling, from `rope_theta` and `rope_scaling`
/// (transformers 4), from `rope_parameters` (transformers 5), or from both if they agree.
pub(super) fn rope(
    keys: &mut Keys<'_>,
    llama: bool,
) -> Result<(f64, Option<Llama3Scaling>), ConfigError> {
    let plain = keys.number("rope_theta")?;
    let old = rope_dictionary(keys, "rope_scaling")?;
    let new = rope_dictionary(keys, "rope_parameters")?;
    if let (Some(old), Some(new)) = (&old, &new)
        && old.scaling != new.scaling
    {
        return Err(ConfigError::Contradiction {
            first: "rope_scaling",
            first_value: old.text.clone(),
            second: "rope_parameters",
            second_value: new.text.clone(),
            rule: "both must say the same",
        });
    }
    let inner = new
        .as_ref()
        .and_then(|d| d.theta)
        .or(old.as_ref().and_then(|d| d.theta));
    if let (Some(plain), Some(inner)) = (plain, inner)
        && plain != inner
    {
        return Err(ConfigError::Contradiction {
            first: "rope_theta",
            first_value: json!(plain),
            second: "rope_parameters.rope_theta",
            second_value: json!(inner),
            rule: "both must say the same",
        });
    }
    let theta = match inner.or(plain) {
        // Configs of the first Llama models have no such key.
        None if llama => 10_000.0,
        found => needed(found, "rope_theta")?,
    };
    Ok((theta, new.or(old).and_then(|dictionary| dictionary.scaling)))
}

struct RopeDictionary {
    theta: Option<f64>,
    scaling: Option<Llama3Scaling>,
    text: Value,
}

fn rope_dictionary(
    keys: &mut Keys<'_>,
    outer: &'static str,
) -> Result<Option<RopeDictionary>, ConfigError> {
    let Some(text) = keys.take(outer) else {
        return Ok(None);
    };
    let Value::Object(mut object) = text.clone() else {
        return Err(invalid(outer, text, "an object"));
    };
    let inner = &mut Keys::new(&mut object);
    let within = |key: &str| format!("{outer}.{key}");
    let named = |error| match error {
        ConfigError::Invalid {
            key,
            value,
            expected,
        } => ConfigError::Invalid {
            key: within(&key),
            value,
            expected,
        },
        other => other,
    };
    let kind = match (inner.take("rope_type"), inner.take("type")) {
        (Some(kind), Some(old)) if kind != old => {
            return Err(unsupported(
                &within("type"),
                old,
                "another `rope_type` stands beside it",
            ));
        }
        (kind, old) => kind.or(old).unwrap_or(json!("default")),
    };
    let theta = inner.number("rope_theta").map_err(named)?;
    if let Some(part) = inner.number("partial_rotary_factor").map_err(named)?
        && part != 1.0
    {
        return Err(unsupported(
            &within("partial_rotary_factor"),
            json!(part),
            "only 1 is",
        ));
    }
    let scaling = match kind.as_str() {
        Some("default") => None,
        Some("llama3") => {
            let mut factor = |key: &str| {
                inner
                    .number(key)
                    .map_err(named)?
                    .ok_or_else(|| missing(&within(key)))
            };
            let (factor, low, high) = (
                factor("factor")?,
                factor("low_freq_factor")?,
                factor("high_freq_factor")?,
            );
            let key = "original_max_position_embeddings";
            let original = inner
                .size(key)
                .map_err(named)?
                .ok_or_else(|| missing(&within(key)))?;
            Some(Llama3Scaling {
                factor,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_position_embeddings: original,
            })
        }
        _ => {
            let supported = "rope types `default` and `llama3` are";
            return Err(unsupported(&within("rope_type"), kind, supported));
        }
    };
    nothing_left(inner, &format!("{outer}."))?;
    Ok(Some(RopeDictionary {
        theta,
        scaling,
        text,
    }))
}
