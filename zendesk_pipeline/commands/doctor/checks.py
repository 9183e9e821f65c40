"""What is looked at, in the order in which it is told. One more check: a line here, and a row in docs/doctor.md."""

from zendesk_pipeline.commands.doctor import bucket, feed, iam, rights, settings_checks, zendesk
from zendesk_pipeline.commands.doctor.verdicts import Check

CHECKS = (
    Check(name="settings", area="Settings", look=settings_checks.loaded),
    Check(name="credentials", area="Settings", look=settings_checks.credentials, needs=["settings"]),
    Check(name="redaction", area="Settings", look=settings_checks.redacted, needs=["settings"]),
    Check(name="environment", area="Settings", look=settings_checks.environment),
    Check(name="zendesk_address", area="Zendesk", look=zendesk.address, needs=["settings"]),
    Check(name="zendesk_host", area="Zendesk", look=zendesk.host, needs=["credentials", "zendesk_address"]),
    Check(name="zendesk_clock", area="Zendesk", look=zendesk.clock, needs=["zendesk_host"]),
    Check(name="zendesk_user", area="Zendesk", look=zendesk.identity, needs=["zendesk_host"]),
    Check(name="zendesk_token", area="Zendesk", look=zendesk.token, needs=["zendesk_user"]),
    Check(name="zendesk_streams", area="Zendesk", look=zendesk.streams, needs=["zendesk_user"]),
    Check(name="zendesk_limits", area="Zendesk", look=zendesk.rate_limits, needs=["zendesk_user"]),
    Check(name="s3_bucket", area="S3", look=bucket.exists, needs=["settings"]),
    Check(name="s3_account", area="S3", look=bucket.account, needs=["s3_bucket"]),
    Check(name="s3_clock", area="S3", look=bucket.clock, needs=["s3_bucket"]),
    Check(name="s3_region", area="S3", look=bucket.region, needs=["s3_bucket"]),
    Check(name="s3_public_access", area="S3", look=bucket.public_access, needs=["s3_bucket"]),
    Check(name="s3_encryption", area="S3", look=bucket.encryption, needs=["s3_bucket"]),
    Check(name="s3_versioning", area="S3", look=bucket.versioning, needs=["s3_bucket"]),
    Check(name="s3_object_lock", area="S3", look=bucket.object_lock, needs=["s3_bucket"]),
    Check(name="s3_lifecycle", area="S3", look=bucket.lifecycle, needs=["s3_bucket"]),
    Check(name="s3_write", area="S3", look=rights.write, needs=["s3_bucket"]),
    Check(name="s3_conditional_writes", area="S3", look=rights.conditional_writes, needs=["s3_bucket"]),
    Check(name="s3_read", area="S3", look=rights.read, needs=["s3_conditional_writes"]),
    Check(name="s3_list", area="S3", look=rights.listing, needs=["s3_bucket"]),
    Check(name="s3_checksums", area="S3", look=rights.checksums, needs=["s3_conditional_writes"]),
    Check(name="s3_too_wide", area="S3", look=rights.too_wide, needs=["s3_conditional_writes"]),
    Check(name="s3_bucket_rights", area="S3", look=iam.bucket_rights, needs=["s3_bucket"]),
    Check(name="s3_feed", area="S3", look=feed.leftovers, needs=["s3_bucket"]),
    Check(name="alert_channels", area="Alerts", look=settings_checks.alerts, needs=["settings"]),
)
