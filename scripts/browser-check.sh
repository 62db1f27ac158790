#!/usr/bin/env bash
# The pages with hostile text in a real browser: no script of a model runs, and its text is there.
#
#   scripts/browser-check.sh [CHROMIUM]
#
# Needs Chromium or Chrome; opens no network. The pages are those of the test `security` of tests/fire.
set -euo pipefail
cd "$(dirname "$0")/.."

browser=${1:-$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)}
[ -n "$browser" ] || { echo "no chromium is installed: name one" >&2; exit 2; }
pages=$(mktemp -d)
trap 'rm -rf "$pages"' EXIT
LEAP_FIRE_PAGES=$pages cargo test --workspace --test fire security::pages >/dev/null

dump() {
    "$browser" --headless --no-sandbox --disable-gpu --user-data-dir="$pages/profile" \
        --virtual-time-budget=3000 --dump-dom "file://$1" 2>/dev/null
}

# A page that does what the hostile text wants to: a check that sees nothing would be none.
cat >"$pages/armed" <<'PAGE'
<!doctype html><script>document.documentElement.dataset.fire=1</script>
PAGE
mv "$pages/armed" "$pages/armed.htm"
dump "$pages/armed.htm" | grep -q 'data-fire="1"' || { echo "the browser runs no script" >&2; exit 2; }

count=0
for page in "$pages"/*.html; do
    name=$(basename "$page")
    dom=$(dump "$page")
    if grep -qE '<html[^>]*data-fire' <<<"$dom"; then
        echo "$name: a script of the text ran" >&2
        exit 1
    fi
    # What the text asks for is in the page's text, and there is nothing else that it could be.
    grep -q '&lt;script&gt;document' <<<"$dom" || { echo "$name: the text is not there" >&2; exit 1; }
    if grep -qE '<(iframe|img|object|embed)' <<<"$dom"; then
        echo "$name: an element that is not ours" >&2
        exit 1
    fi
    count=$((count + 1))
    echo "$name: $(wc -c <"$page") bytes, no script of the text ran"
done
[ "$count" -gt 2 ] || { echo "only $count pages" >&2; exit 1; }
"$browser" --version
