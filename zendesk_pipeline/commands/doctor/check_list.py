"""The checks, in the order in which they are shown. For a new one add a line here and a row in docs/doctor.md."""

from zendesk_pipeline.commands.doctor import bucket, feed_prefix, iam, rights, secops_feed, settings_checks, zendesk
from zendesk_pipeline.commands.doctor.verdicts import Check

CHECKS = (
    Check(name="settings", area="Settings", run=settings_checks.loaded),
    Check(name="credentials", area="Settings", run=settings_checks.credentials, needs=["settings"]),
    Check(name="redaction", area="Settings", run=settings_checks.redacted, needs=["settings"]),
    Check(name="environment", area="Settings", run=settings_checks.environment),
    Check(name="zendesk_address", area="Zendesk", run=zendesk.address, needs=["settings"]),
    Check(name="zendesk_host", area="Zendesk", run=zendesk.host, needs=["credentials", "zendesk_address"]),
    Check(name="zendesk_clock", area="Zendesk", run=zendesk.clock, needs=["zendesk_host"]),
    Check(name="zendesk_user", area="Zendesk", run=zendesk.identity, needs=["zendesk_host"]),
    Check(name="zendesk_token", area="Zendesk", run=zendesk.token, needs=["zendesk_user"]),
    Check(name="zendesk_streams", area="Zendesk", run=zendesk.streams, needs=["zendesk_user"]),
    Check(name="zendesk_limits", area="Zendesk", run=zendesk.rate_limits, needs=["zendesk_user"]),
    Check(name="s3_bucket", area="S3", run=bucket.exists, needs=["settings"]),
    Check(name="s3_account", area="S3", run=bucket.account, needs=["s3_bucket"]),
    Check(name="s3_clock", area="S3", run=bucket.clock, needs=["s3_bucket"]),
    Check(name="s3_region", area="S3", run=bucket.region, needs=["s3_bucket"]),
    Check(name="s3_public_access", area="S3", run=bucket.public_access, needs=["s3_bucket"]),
    Check(name="s3_encryption", area="S3", run=bucket.encryption, needs=["s3_bucket"]),
    Check(name="s3_versioning", area="S3", run=bucket.versioning, needs=["s3_bucket"]),
    Check(name="s3_object_lock", area="S3", run=bucket.object_lock, needs=["s3_bucket"]),
    Check(name="s3_lifecycle", area="S3", run=bucket.lifecycle, needs=["s3_bucket"]),
    Check(name="s3_write", area="S3", run=rights.write, needs=["s3_bucket"]),
    Check(name="s3_conditional_writes", area="S3", run=rights.conditional_writes, needs=["s3_bucket"]),
    Check(name="s3_read", area="S3", run=rights.read, needs=["s3_conditional_writes"]),
    Check(name="s3_list", area="S3", run=rights.listing, needs=["s3_bucket"]),
    Check(name="s3_checksums", area="S3", run=rights.checksums, needs=["s3_conditional_writes"]),
    Check(name="s3_too_wide", area="S3", run=rights.too_wide, needs=["s3_conditional_writes"]),
    Check(name="s3_bucket_rights", area="S3", run=iam.bucket_rights, needs=["s3_bucket"]),
    Check(name="s3_feed", area="S3", run=feed_prefix.leftovers, needs=["s3_bucket"]),
    Check(name="secops_feed", area="SecOps", run=secops_feed.read, needs=["settings"]),
    Check(name="alert_channels", area="Alerts", run=settings_checks.alerts, needs=["settings"]),
)
