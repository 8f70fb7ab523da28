//! What typed clients of both generations parse each word as, for tests: of those beside the code and of those of the whole (`tests/it/g3.rs`).

use serde_json::Value;

/// What the clients in Rust (3.0) and Go (2.x) parse each field as; they give the whole answer up for one that is something else.
pub(crate) fn is_parsed(name: &str, value: &Value) -> bool {
    let texts = |value: &Value| value.as_object().is_some_and(|map| map.values().all(Value::is_string));
    match name {
        "name" | "command" | "description" | "working_dir" | "docker_image" | "health_check_cmd" => value.is_string(),
        "start_interval_seconds" | "interval" | "cron_schedule" | "retention" | "stop_grace_period" => {
            value.is_string()
        }
        "owner" | "owner_principal_id" | "owner_display_name" | "execution_user" | "pid_user" => value.is_string(),
        "last_error" | "task_status" | "container_id" | "subscription_id" | "pstree" => value.is_string(),
        "shell" | "session_login" | "enabled" | "cron" => value.is_boolean(),
        "status"
        | "permission"
        | "stdout_cache_num"
        | "stdout_backup_count"
        | "version"
        | "pid"
        | "starts"
        | "fd"
        | "health"
        | "task_id"
        | "stdout_cache_size"
        | "stdout_file_count" => value.as_u64().is_some_and(|number| u32::try_from(number).is_ok()),
        "start_time" | "end_time" | "register_time" | "last_start_time" | "last_exit_time" | "next_start_time"
        | "memory" => value.is_u64(),
        "return_code" => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
        "cpu" => value.is_number(),
        "env" => texts(value),
        "depends_on" | "waiting_for" => value.as_array().is_some_and(|all| all.iter().all(Value::is_string)),
        "daily_limitation" | "resource_limit" => value.as_object().is_some_and(|map| map.values().all(Value::is_u64)),
        "behavior" => {
            value["exit"].is_string()
                && ["control", "exit_code_actions"].iter().all(|map| value[map].is_null() || texts(&value[map]))
        }
        "metadata" => true,
        name => name.ends_with("_TEXT") && value.is_string(),
    }
}
