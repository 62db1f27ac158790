//! Our own wording, with a worked example that is in no benchmark.

use super::PromptSet;

const MATH: &str = "{problem}\n\nThink it through one step at a time. At the end write the final \
                    answer in \\boxed{}.";
const CHOICE: &str = "{problem}\n\n{choices}\n\nThink it through one step at a time. At the end \
                      write the letter of the right option in \\boxed{}.";
const EXCHANGE: &str = "\n\nOthers work on the same problem beside you. From time to time you are \
    asked to sum up where you stand, and then you read what some of the others wrote. Check what \
    they say before you use it: they can be wrong. It looks like this:\n\nThe sum 1 + 2 + ... + 20 \
    is 20 * 21 / 2, so far so good.\n\nTime to share where I stand. <summarize> I use n(n+1)/2 \
    with n = 20 and get 210. </summarize> <comment> Peer 1: \"Pairing 1 with 20, 2 with 19 and so \
    on gives 10 pairs of 21, so 210.\"\nPeer 2: \"I added up to 19 and got 190.\" </comment>\n\n\
    Let me weigh what the others say. Peer 1 reaches 210 by pairing, which agrees with mine. Peer \
    2 left out the last term: 190 + 20 = 210.";

impl PromptSet {
    /// Our own wording, with a worked example that is in no benchmark.
    pub fn clean() -> Self {
        let owned = |lines: &[&str]| lines.iter().map(|line| (*line).to_string()).collect();
        Self {
            name: "clean".into(),
            math: MATH.into(),
            choice: CHOICE.into(),
            math_example: format!("{MATH}{EXCHANGE}"),
            choice_example: format!("{CHOICE}{EXCHANGE}"),
            math_seed: String::new(),
            choice_seed: String::new(),
            triggers: owned(&[
                "Time to share where I stand.",
                "Before I go on, here is where I am.",
                "Let me sum up my progress for the others.",
                "A short note on what I have so far.",
            ]),
            openers: owned(&[
                " <summarize> So far",
                " <summarize> In short,",
                " <summarize> My approach is",
                " <summarize> What I know is",
            ]),
            comment: " <comment> {peers} </comment>\n\n".into(),
            peer: "Peer {n}: \"{summary}\"".into(),
            peer_separator: "\n".into(),
            reflection: "Let me weigh what the others say.".into(),
            no_peers: " <comment> Nobody else is working on it any more. </comment>\n\n".into(),
            alone: "So I go on by myself.".into(),
            forced_math: "{close}\n\nI have to decide now: the answer is \\boxed{".into(),
            forced_choice: "{close}\n\nI have to decide now: the right option is \\boxed{".into(),
            moa: "{question}\n\nOthers have answered this before you. They can be wrong, and they \
                  can be wrong in the same way: check each step before you use it, and answer in \
                  your own words.\n\n{answers}"
                .into(),
            moa_answer: "Answer {n}:\n{answer}".into(),
            moa_separator: "\n\n".into(),
            moa_stop: "\n\nThat is as far as I get; I write my answer now.{close}\n\n".into(),
        }
    }
}
