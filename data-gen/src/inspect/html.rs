//! Pictures of samples as one page without network.

use std::fmt::Write;

use super::{Border, Counts, Picture, Token};

const STYLE: &str = "
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { text-align: left; padding: .15rem .8rem .15rem 0; border-bottom: 1px solid #8884; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font: 13px/1.6 ui-monospace, monospace;
  border-left: .3rem solid; padding: .3rem .6rem; margin: .3rem 0; }
pre b { float: right; font: 12px system-ui, sans-serif; opacity: .7; margin-left: 1rem; }
i { font-style: normal; border-radius: 2px; }
i:nth-of-type(even) { background: #8882; }
i.l { border-bottom: 2px solid currentColor; }
.prompt { color: #777; } .beginning { color: #a06000; } .thought { color: #1d4f91; }
.trigger { color: #7a5195; } .summary { color: #00703c; } .comment { color: #b5326e; }
.bridge { color: #7a7a00; } .forced { color: #b03a00; } .answer { color: #c00000; }
@media (prefers-color-scheme: dark) {
  body { background: #111; color: #ddd; } .prompt { color: #999; } .beginning { color: #e0a050; }
  .thought { color: #7fb2f0; } .trigger { color: #c39be0; } .summary { color: #5fcf95; }
  .comment { color: #f08cb8; } .bridge { color: #cccc66; } .forced { color: #f0955f; }
  .answer { color: #ff7b7b; }
}";

/// A page with the counts and these samples. Every token is a box, underlined where it carries loss;
/// its number and weight show when it is pointed at.
pub fn page(title: &str, counts: &Counts, pictures: &[Picture]) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n<style>{STYLE}\n</style>\n\
         <h1>{title}</h1>\n",
        title = escaped(title)
    );
    let all = counts.all();
    let share = |part: u64| 100.0 * part as f64 / all.tokens.max(1) as f64;
    let _ = writeln!(
        page,
        "<p>{} samples, {} tokens, {:.1}% of them with loss (underlined).</p>\n<table><tr><th>kind<th>tokens\
         <th>share<th>with loss",
        counts.samples,
        all.tokens,
        share(all.trained)
    );
    for (kind, count) in counts.present() {
        let _ = writeln!(
            page,
            "<tr><td class=\"{0}\">{0}<td class=\"n\">{1}<td class=\"n\">{2:.1}%<td class=\"n\">{3}",
            kind.name(),
            count.tokens,
            share(count.tokens),
            count.trained
        );
    }
    page += "</table>\n";
    for picture in pictures {
        sample(&mut page, picture);
    }
    page
}

fn sample(page: &mut String, picture: &Picture) {
    let _ = writeln!(
        page,
        "<h2>{}</h2>\n<p>{} tokens</p>",
        escaped(&picture.id),
        picture.len()
    );
    for span in &picture.spans {
        let kind = span.kind.name();
        let _ = write!(
            page,
            "<pre class=\"{kind}\"><b>{kind}, {} tokens</b>",
            span.tokens.len()
        );
        span.tokens.iter().for_each(|token| boxed(page, token));
        page.push_str("</pre>\n");
    }
    page.push_str("<table><tr><th>ends with<th>begins with\n");
    for Border { before, after } in picture.borders() {
        page.push_str("<tr>");
        for (kind, tokens) in [before, after] {
            let _ = write!(page, "<td class=\"{0}\">{0}: <code>", kind.name());
            tokens.iter().for_each(|token| boxed(page, token));
            page.push_str("</code>");
        }
        page.push('\n');
    }
    page.push_str("</table>\n");
}

fn boxed(page: &mut String, token: &Token) {
    let loss = if token.weight > 0.0 {
        " class=\"l\""
    } else {
        ""
    };
    // A line end that is seen, and then happens.
    let text = escaped(&token.text).replace('\n', "\u{23ce}\n");
    let _ = write!(
        page,
        "<i{loss} title=\"{} * {}\">{text}</i>",
        token.id, token.weight
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
