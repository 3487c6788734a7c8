//! `demo --kubernetes`: the main job on a real Kubernetes, live. What it shows it also checks.
//!
//! Invariant: everything is as a user has it: the chart, the example, and commands that anybody can
//! type; only processes and links are broken from outside.

mod compare;
pub mod elsewhere;
mod measured;
mod news;
mod show;

use super::chart;
use super::leaders::Leaders;
use super::space::{PATIENCE, Space, until};
use super::stage::Stage;
use super::{Options, asked_to_end};
use crate::down;
use crate::up::Wanted;
use quorate_load::screen::Screen;
use show::Show;
use std::cell::RefCell;

/// Where the example is applied.
const SPACE: &str = "demo";

/// What to show.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// How often each fault.
    pub rounds: u32,
    /// Whether colour helps.
    pub color: bool,
    /// The same application under a Lease and under Quorate, instead.
    pub compare: bool,
}

/// Shows it on a cluster of its own; true if every promise was kept.
///
/// # Errors
/// What this machine lacks, or what did not come about.
pub async fn run(options: &Options, wish: Wish) -> Result<bool, String> {
    let name = format!("demo-{}", std::process::id());
    let wanted = Wanted {
        base: options.base.clone(),
        name: name.clone(),
        nodes: Some(3),
        images: vec![options.image.clone()],
    };
    let ran = tokio::select! {
        ran = show(options, &wanted, wish) => ran,
        asked = asked_to_end() => Err(asked),
    };
    let ended = down::down(&options.base, &name);
    let kept = ran?;
    ended?;
    Ok(kept)
}

async fn show(options: &Options, wanted: &Wanted, wish: Wish) -> Result<bool, String> {
    let screen = Screen::new(wish.color);
    screen.title(if wish.compare {
        "A Kubernetes of three nodes, one application, two ways to elect its leader."
    } else {
        "A Kubernetes of three nodes, three pods, one leader. Now we break things."
    });
    let stage = Stage::bare(options, wanted).await?;
    screen.news("a Kubernetes of three nodes is up, with the image on each");
    let shown = match wish.compare {
        true => compare::run(&stage, screen, wish.rounds).await,
        false => example(&stage, screen, wish.rounds).await,
    };
    if let Err(why) = &shown {
        screen.bad(why);
        eprintln!("{}", stage.told().await);
    }
    shown
}

async fn example(stage: &Stage, screen: Screen, rounds: u32) -> Result<bool, String> {
    chart::release(stage, "install", &["--create-namespace"])?;
    screen.news("helm install quorate charts/quorate: the operator is ready");
    chart::busybox(stage)?;
    let space = Space::of(stage, SPACE)?;
    chart::example(stage, SPACE, "raftcluster.yaml")?;
    screen.news("kubectl apply -f examples/kubernetes/raftcluster.yaml");
    let leaders = RefCell::default();
    tokio::select! {
        shown = break_things(&space, screen, rounds, &leaders) => shown,
        never = news::tell(&space, &screen, &leaders) => match never {},
    }
}

async fn break_things(
    space: &Space<'_>,
    screen: Screen,
    rounds: u32,
    leaders: &RefCell<Leaders>,
) -> Result<bool, String> {
    space.settled(3).await?;
    until("an application leads", PATIENCE, async || {
        let led = leaders.borrow().last().is_some();
        if led { Ok(()) } else { Err("none says so".to_owned()) }
    })
    .await?;
    let mut show = Show::new(space, screen, leaders).await?;
    for _ in 0..rounds {
        show.round().await?;
    }
    let (rows, acknowledged) = show.finish().await;
    screen.table(&rows);
    let kept = leaders.borrow().tell(&screen) && acknowledged.is_ok();
    match acknowledged {
        Ok(count) => screen.kept(&format!(
            "nothing acknowledged was lost, no two holders: {count} grants and releases checked"
        )),
        Err(why) => screen.broken(&why),
    }
    Ok(kept)
}
