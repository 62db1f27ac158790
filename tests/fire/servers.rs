//! Servers that misbehave, die and come back: no group is lost, none is there twice, memory is flat.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use protocol::Stream;
use serde_json::Value;

use crate::bench::Bench;
use crate::row::{long, scale, tell};
use crate::server::{Act, Kind, Server};
use crate::work::Work;

/// Traces of the model behind these servers, in the ids of bytes that they speak.
fn work(servers: &[&Server], problems: usize, groups: usize) -> Work {
    let urls: Vec<String> = servers.iter().map(|server| server.url()).collect();
    let urls = urls.join(",");
    let count = format!("problems.count={problems}");
    let groups = format!("traces.groups={groups}");
    Work::new(
        "data-gen traces behind servers",
        &[
            "data-gen",
            "traces",
            "teacher-simulated",
            "teacher.engine=remote",
            "teacher.folder=bytes",
            "teacher.remote.model=babbler",
            "teacher.remote.positions=4096",
            &count,
            &groups,
            "--server",
            &urls,
            "--in-flight",
            "256",
            "--tries",
            "20",
            "--no-progress",
            "--out",
            "OUT",
        ],
        "traces",
    )
}

/// Resident memory of a process in kilobytes; none if it has ended.
fn resident(process: &Child) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Looks at a process's memory for so long, or until it ends.
fn look(process: &Child, memory: &mut Vec<u64>, time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        match resident(process) {
            Some(now) => memory.push(now),
            None => return,
        }
        sleep(Duration::from_millis(20));
    }
}

fn start(mut command: Command) -> Child {
    command.stderr(Stdio::piped()).spawn().expect("leap starts")
}

/// Names of the groups of a file of traces.
fn groups(bench: &Bench, work: &Work, number: usize) -> Vec<(String, u64)> {
    let file = bench.path(&work.out(number)).join("traces.jsonl");
    let text = fs::read_to_string(file).expect("traces");
    text.lines()
        .map(|line| {
            let trace: Value = serde_json::from_str(line).expect("JSON");
            let problem = trace["problem"].as_str().expect("an id").to_owned();
            (problem, trace["group"].as_u64().expect("a number"))
        })
        .collect()
}

/// What a server does wrong next, drawn from all there is.
fn mischief(stream: &Stream, at: u64) -> Act {
    let acts = [
        Act::Busy("0"),
        Act::Busy(""),
        Act::Status(500),
        Act::Status(503),
        Act::Slow(Duration::from_millis(200)),
        Act::Half,
        Act::Torn,
        Act::Reset,
        Act::Choices(0),
        Act::Choices(2),
        Act::WrongIds,
    ];
    acts[stream.below(at, acts.len())]
}

#[test]
fn servers_that_misbehave_die_and_return_lose_no_group() {
    let bench = Bench::new();
    bench.byte_tokenizer();
    let servers: Vec<Server> = (0..3).map(|_| Server::start(Kind::Vllm)).collect();
    let listed: Vec<&Server> = servers.iter().collect();
    let work = work(&listed, scale(200, 700), scale(2, 18));
    let (expected, _) = work.undisturbed(&bench);
    for server in &servers {
        server.delay(Duration::from_millis(30));
    }
    let stream = Stream::of_run(15).named("mischief");
    let started = Instant::now();
    let asked = || servers.iter().map(Server::completions).sum::<usize>();
    let before = asked();
    let mut process = start(work.command(&bench, 1));
    // Servers that answer nothing right when they are first asked are told of, and not used.
    while asked() < before + 200 {
        sleep(Duration::from_millis(5));
        assert!(
            process.try_wait().expect("a state").is_none(),
            "it has ended"
        );
    }
    let mut memory = Vec::new();
    let (mut acts, mut deaths) = (0, 0);
    let disturbed = Duration::from_secs(scale(8, 300));
    while process.try_wait().expect("a state").is_none() {
        if started.elapsed() > disturbed {
            servers.iter().for_each(Server::forget_acts);
            look(&process, &mut memory, Duration::from_millis(50));
            continue;
        }
        for (number, server) in servers.iter().enumerate() {
            let stream = stream.indexed(number as u64);
            for _ in 0..8 {
                acts += 1;
                server.acts([mischief(&stream, acts)]);
            }
        }
        // One at a time is gone for a while; each is back before the next one goes.
        let dying = &servers[deaths % servers.len()];
        dying.die();
        deaths += 1;
        look(&process, &mut memory, Duration::from_millis(300));
        dying.rise();
        look(&process, &mut memory, Duration::from_millis(1700));
    }
    let told = process.wait_with_output().expect("it ends");
    let told_text = String::from_utf8_lossy(&told.stderr);
    assert!(told.status.success(), "{told_text}");
    // The servers say the same whoever asks, so lost, doubled and damaged groups all show.
    work.check_same(&bench, 1, &expected);
    let mut names = groups(&bench, &work, 1);
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all, "a group is there twice");
    let early = memory[memory.len() / 10];
    let late = memory[memory.len() * 9 / 10..].iter().max().copied();
    let growth = late.unwrap_or(early) as f64 / early as f64;
    // Hundreds of connections take seconds to come to the size of their buffers: a short run is over
    // by then, and only shows the figure.
    assert!(!long() || growth <= 1.3, "memory grows: {memory:?}");
    let failed = told_text.lines().rev().find(|line| line.contains("groups"));
    tell(
        "servers that misbehave, die and return",
        &[
            ("groups", &all),
            ("lost", &0),
            ("twice", &0),
            ("wrongs", &acts),
            ("deaths", &deaths),
            ("seconds", &started.elapsed().as_secs()),
            (
                "memory at the end over that at 10%",
                &format!("{growth:.2}"),
            ),
            ("summary:", &failed.unwrap_or_default().trim()),
        ],
    );
}

#[test]
fn a_generation_behind_servers_killed_at_random_times_has_the_same_bytes() {
    let bench = Bench::new();
    bench.byte_tokenizer();
    let servers: Vec<Server> = (0..2).map(|_| Server::start(Kind::Vllm)).collect();
    let listed: Vec<&Server> = servers.iter().collect();
    let work = work(&listed, scale(40, 200), 2);
    for server in &servers {
        server.delay(Duration::from_millis(40));
    }
    let (expected, whole) = work.undisturbed(&bench);
    let asked = servers.iter().map(Server::completions).sum::<usize>();
    // The servers are asked what they can do before anything is kept: most attempts get further.
    let window = whole.mul_f64(0.5).max(Duration::from_secs(2));
    let found = crate::crash::kill_at_random(&bench, &work, &expected, window, scale(15, 100));
    let asked_killed = servers.iter().map(Server::completions).sum::<usize>() - asked;
    tell(
        "a generation behind servers, SIGKILL at random times",
        &[
            ("kills", &found.kills),
            ("runs", &found.runs),
            ("requests undisturbed", &asked),
            ("requests a killed run", &(asked_killed / found.runs)),
            ("files that differ", &0),
        ],
    );
}
