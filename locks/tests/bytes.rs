//! Both formats: what is written is read again, and damaged bytes are refused or are another valid
//! value, never a panic.

#[cfg(test)]
mod generate;

use generate::{Generator, Random};
use quorate_locks::{
    Attachment, Claim, Command, DecodeError, Generation, Key, Machine, Mode, NameKind, RequestId,
    SessionId,
};

/// Machines and commands of some random logs, taken along the way.
fn samples(seeds: u64) -> (Vec<Machine>, Vec<Command>) {
    let (mut machines, mut commands) = (Vec::new(), Vec::new());
    for seed in 0..seeds {
        let mut generator = Generator::new(seed);
        let mut machine = Machine::new();
        for step in 0..300 {
            let (index, command) = generator.entry(&machine);
            machine.apply(index, &command, &mut Vec::new());
            commands.push(command);
            if step % 50 == 49 {
                machines.push(machine.clone());
            }
        }
    }
    (machines, commands)
}

/// If damaged bytes decode, they are the one encoding of a value that holds its invariants.
fn judge_machine(bytes: &[u8]) -> bool {
    match Machine::decode(bytes) {
        Err(_) => false,
        Ok(machine) => {
            machine.check();
            assert_eq!(machine.encode(), bytes);
            survives(machine);
            true
        }
    }
}

/// A decoded machine takes commands like any other.
fn survives(mut machine: Machine) {
    let Some(next) = machine.last_index().checked_add(1) else { return };
    let seen: Vec<_> = machine.sessions().map(|(id, it)| (id, it.generation())).collect();
    machine.apply(next, &Command::Expire { sessions: seen }, &mut Vec::new());
    machine.check();
}

fn judge_command(bytes: &[u8]) -> bool {
    match Command::decode(bytes) {
        Err(_) => false,
        Ok(command) => {
            assert_eq!(command.encode(), bytes);
            true
        }
    }
}

fn damage(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..=random.below(3) {
        let at = random.at(bytes.len());
        match random.below(4) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = [0, 1, 0x7f, 0xff][at % 4],
            2 => bytes.insert(at, random.draw().to_le_bytes()[0]),
            _ if bytes.len() > 1 => drop(bytes.remove(at)),
            _ => {}
        }
    }
}

#[test]
fn every_value_is_read_as_it_was_written() {
    let (machines, commands) = samples(30);
    for machine in &machines {
        assert_eq!(Machine::decode(&machine.encode()).as_ref(), Ok(machine));
    }
    for command in &commands {
        assert_eq!(Command::decode(&command.encode()).as_ref(), Ok(command));
    }
    assert!(machines.len() == 180 && commands.len() == 9_000);
}

#[test]
fn every_truncation_and_every_further_byte_is_refused() {
    let (machines, commands) = samples(4);
    for machine in machines.iter().step_by(5) {
        let mut bytes = machine.encode();
        for length in 0..bytes.len() {
            assert!(Machine::decode(&bytes[..length]).is_err(), "length {length}");
        }
        bytes.push(0);
        assert_eq!(Machine::decode(&bytes), Err(DecodeError::Trailing));
    }
    for command in &commands {
        let mut bytes = command.encode();
        for length in 0..bytes.len() {
            assert_eq!(Command::decode(&bytes[..length]), Err(DecodeError::Truncated));
        }
        bytes.push(0);
        assert_eq!(Command::decode(&bytes), Err(DecodeError::Trailing));
    }
}

#[test]
fn every_flipped_bit_is_refused_or_another_value() {
    let (machines, commands) = samples(6);
    for machine in machines.iter().skip(1).step_by(6) {
        let bytes = machine.encode();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            judge_machine(&flipped);
        }
    }
    for command in &commands {
        let bytes = command.encode();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            judge_command(&flipped);
        }
    }
}

#[test]
fn random_damage_never_panics() {
    let (machines, commands) = samples(20);
    let mut random = Random::new(1);
    let mut valid = 0;
    for round in 0..20_000 {
        let mut bytes = machines[round % machines.len()].encode();
        damage(&mut random, &mut bytes);
        valid += usize::from(judge_machine(&bytes));
        let mut bytes = commands[round % commands.len()].encode();
        damage(&mut random, &mut bytes);
        valid += usize::from(judge_command(&bytes));
    }
    assert!(valid > 100, "the damage leaves nothing valid: {valid}");
}

#[test]
fn random_bytes_never_panic() {
    let mut random = Random::new(2);
    for _ in 0..50_000 {
        let length = random.at(200);
        let mut bytes: Vec<u8> = (0..length).map(|_| random.draw().to_le_bytes()[0]).collect();
        judge_command(&bytes);
        judge_machine(&bytes);
        // Past the version and, for a command, the kind.
        if bytes.len() > 1 {
            for version in [2, 1] {
                bytes[0] = version;
                judge_machine(&bytes);
            }
            bytes[1] = u8::try_from(random.below(10)).unwrap();
            judge_command(&bytes);
        }
    }
}

#[test]
fn unknown_version_and_kind_are_errors() {
    assert_eq!(Command::decode(&[]), Err(DecodeError::Truncated));
    assert_eq!(Command::decode(&[2, 1]), Err(DecodeError::Version(2)));
    assert_eq!(Command::decode(&[0, 1]), Err(DecodeError::Version(0)));
    assert_eq!(Command::decode(&[1, 0]), Err(DecodeError::Kind(0)));
    assert_eq!(Command::decode(&[1, 9]), Err(DecodeError::Kind(9)));
    assert_eq!(Machine::decode(&[]), Err(DecodeError::Truncated));
    assert_eq!(Machine::decode(&[2]), Err(DecodeError::Truncated));
    assert_eq!(Machine::decode(&[3]), Err(DecodeError::Version(3)));
}

/// States that no log brings about, made by putting one number in the place of another.
#[test]
fn impossible_machines_are_refused() {
    let attachment = Attachment { member: 0xaaaa, boot: 0xbbbb };
    let open = |key| Command::Open { key: Key(key), ttl_ms: 5_000, attachment, label: "".into() };
    let claim = |session, request: u64, name: &str| {
        Command::Claim(Claim {
            session: SessionId(session),
            generation: Generation(1),
            request: RequestId(request),
            lowest_unacked: RequestId(0),
            name: name.to_owned(),
            kind: NameKind::Lock,
            mode: Mode::Exclusive,
            permits: 1,
            priority: 0,
            value: Vec::new(),
            queue: true,
        })
    };
    let mut machine = Machine::new();
    let mut apply = |index, command: Command| machine.apply(index, &command, &mut Vec::new());
    apply(1, Command::Start { epoch: 3, last_n: 70_000 });
    apply(0x1111, open(0x0c0c_0c0c));
    apply(0x2222, open(0x0d0d_0d0d));
    apply(0x3333, claim(0x1111, 0x51, "a"));
    apply(0x4444, claim(0x1111, 0x52, "b"));
    apply(0x5555, claim(0x2222, 0x53, "a"));
    apply(0x6666, claim(0x2222, 0x54, "b"));
    let bytes = machine.encode();
    assert_eq!(Machine::decode(&bytes), Ok(machine));

    let token = |n: u64| (3 << 48) + n;
    let (no, one) = (u64::MAX, token(70_001));
    let cases = [
        (token(70_002), one, "a token is given once"),
        (one, token(70_003), "a token was given in this life"),
        (one, token(70_000), "a token was given in this life"),
        (one, token(70_001) + (1 << 48), "a token is of the epoch"),
        (0x6666, 0x5555, "an entry makes one claim"),
        (0x5555, 0x2222, "a claim came after its session"),
        (0x2222, 0x2223, "a claim has its session"),
        (0x0d0d_0d0d, 0x0c0c_0c0c, "a session has one key"),
        (0x53, no, "a known request id was used"),
        (0x53, 0x54, "one live claim a name and request id"),
        (5_000, 999, "ttl_ms is in range"),
    ];
    for (from, to, broken) in cases {
        let forged = replace(&bytes, from, to);
        assert_eq!(Machine::decode(&forged), Err(DecodeError::Invalid(broken)), "{from:x}");
    }
}

/// Replaces the last place where the bytes of `from` stand: names come after sessions. What fits
/// in 32 bits is replaced as such, so that fields of both sizes are reached.
fn replace(bytes: &[u8], from: u64, to: u64) -> Vec<u8> {
    let width = if from < 10_000 && to < 10_000 { 4 } else { 8 };
    let (from, to) = (&from.to_le_bytes()[..width], &to.to_le_bytes()[..width]);
    let at = bytes.windows(width).rposition(|window| window == from).expect("to be found");
    let mut out = bytes.to_vec();
    out[at..at + width].copy_from_slice(to);
    out
}

#[test]
fn claimed_length_allocates_nothing() {
    // Expire of 2^32 - 1 sessions in six bytes.
    assert_eq!(Command::decode(&[1, 5, 255, 255, 255, 255]), Err(DecodeError::Truncated));
    let mut snapshot = Machine::new().encode();
    let sessions = snapshot.len() - 8;
    snapshot[sessions..sessions + 4].fill(255);
    assert_eq!(Machine::decode(&snapshot), Err(DecodeError::Truncated));
}

/// The bytes of the format stand here, so that a change of it is seen.
#[test]
fn format_of_an_open_is_fixed() {
    let attachment = Attachment { member: 2, boot: 3 };
    let open = Command::Open { key: Key(1), ttl_ms: 5_000, attachment, label: "hi".to_owned() };
    let mut expected = vec![1, 2, 1];
    expected.extend([0; 15]);
    expected.extend([0x88, 0x13, 0, 0, 2]);
    expected.extend([0; 15]);
    expected.extend([3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, b'h', b'i']);
    assert_eq!(open.encode(), expected);
}
